//! Files that are damaged, cut, mislabelled or made to hurt: each gets its reason, none a panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test stops where it goes wrong"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use antiphon_fingerprint::{AnalyzeError, Analyzer, AnalyzerConfig, ErrorClass, FfmpegChoice};
use antiphon_proto::Container;
use support::{ENCODINGS, encode, has_program, run, skip_or_fail};
use tempfile::TempDir;

fn analyzer() -> Analyzer {
    Analyzer::new(AnalyzerConfig { timeout: Duration::from_secs(30), ..AnalyzerConfig::default() })
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn error_of(path: &Path) -> AnalyzeError {
    let analyzer = analyzer();
    let error = analyzer.analyze(path).expect_err("an error");
    assert!(!error.to_string().is_empty());
    // The other entries are as careful.
    let _ = analyzer.fingerprint(path).expect_err("an error");
    let _ = analyzer.cover(path);
    error
}

/// Random numbers that are the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn files_that_are_no_audio() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(error_of(&write(&folder, "empty.mp3", b"")), AnalyzeError::Empty));
    for byte in [0u8, 0xff, b'I', b'O'] {
        assert!(matches!(error_of(&write(&folder, "one.ogg", &[byte])), AnalyzeError::NotAudio));
    }
    let text = "It was a dark and stormy night; the rain fell in torrents. ".repeat(5_000);
    assert!(matches!(error_of(&write(&folder, "text.mp3", text.as_bytes())), AnalyzeError::NotAudio));
    let mut noise = Noise(7);
    for number in 0..20 {
        let path = write(&folder, &format!("noise{number}.flac"), &noise.bytes(300_000));
        assert!(matches!(error_of(&path), AnalyzeError::NotAudio));
    }
    assert!(matches!(error_of(folder.path()), AnalyzeError::NotAFile));
    let missing = error_of(&folder.path().join("missing.mp3"));
    assert!(matches!(missing, AnalyzeError::Io(_)));
    assert_eq!(missing.class(), ErrorClass::Failed);
    assert_eq!(AnalyzeError::NotAudio.class(), ErrorClass::Skipped);
}

#[cfg(unix)]
#[test]
fn named_pipes_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.mp3");
    run(Command::new("mkfifo").arg(&path));
    assert!(matches!(error_of(&path), AnalyzeError::NotAFile));
}

#[test]
fn headers_without_bodies() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8]); 12] = [
        ("id3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f"),
        ("id3 and text", b"ID3\x04\0\0\0\0\0\x04abcdno music here"),
        ("ogg", b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1e\x01vorbis"),
        ("opus", b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead"),
        ("flac", b"fLaC\x80\xff\xff\xff"),
        ("ape", b"MAC \x96\x0f\0\0\x34\0\0\0\x18\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("wav", b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff"),
        ("aiff", b"FORM\xff\xff\xff\xffAIFFCOMM\xff\xff\xff\xff"),
        ("m4a", b"\0\0\0\x08ftyp\xff\xff\xff\xffmoov"),
        (
            "wma",
            &[
                0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, 0xa6, 0xd9, 0, 0xaa, 0, 0x62, 0xce, 0x6c,
                255, 255,
            ],
        ),
        ("mka", &[0x1a, 0x45, 0xdf, 0xa3, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("aac", &[0xff, 0xf1, 0x50, 0x80, 0x01, 0x1f, 0xfc, 0xff, 0xf1, 0x50, 0x80, 0x01, 0x1f, 0xfc]),
    ];
    for (name, bytes) in cases {
        let mut longer = bytes.to_vec();
        longer.resize(100_000, 0);
        for bytes in [bytes.to_vec(), longer, [bytes, &[0xff; 5_000]].concat()] {
            let error = error_of(&write(&folder, name, &bytes));
            assert!(!matches!(error, AnalyzeError::Timeout(_)), "{name}: {error}");
        }
    }
}

/// A sparse WAV file of silence: 16 bits, mono.
fn sparse_wav(folder: &TempDir, name: &str, rate: u32, seconds: u32) -> PathBuf {
    let data = rate * 2 * seconds;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((data + 36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * 2).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(data.to_le_bytes());
    let path = write(folder, name, &bytes);
    fs::File::options().append(true).open(&path).unwrap().set_len(u64::from(data) + 44).unwrap();
    path
}

#[test]
fn length_does_not_matter_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let large = sparse_wav(&folder, "large.wav", 44_100, 22_000);
    let analysis = analyzer().analyze(&large).unwrap();
    assert_eq!((analysis.duration_ms, analysis.bitrate_kbps), (22_000_000, 705));
    assert_eq!(analysis.fingerprint.items().len(), 948);
    let error = error_of(&sparse_wav(&folder, "long.wav", 8_000, 12 * 3_600 + 1));
    assert!(matches!(error, AnalyzeError::TooLong(43_201)), "{error}");
    for (seconds, rate) in [(1, 8_000), (2, 44_100)] {
        let error = error_of(&sparse_wav(&folder, "short.wav", rate, seconds));
        assert!(matches!(error, AnalyzeError::TooShort(_)), "{error}");
    }
    let huge = sparse_wav(&folder, "huge.wav", 44_100, 10);
    fs::File::options().append(true).open(&huge).unwrap().set_len((4 << 30) + 1).unwrap();
    assert!(matches!(error_of(&huge), AnalyzeError::TooLarge(_)));
}

#[test]
fn old_monkeys_audio_headers_cannot_ask_for_memory() {
    let folder = tempfile::tempdir().unwrap();
    for version in [3_950u16, 3_970, 3_980, 3_990] {
        let mut bytes = b"MAC ".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.resize(200, 0xff);
        assert!(
            matches!(error_of(&write(&folder, "big.ape", &bytes)), AnalyzeError::Corrupt(_)),
            "{version}"
        );
    }
}

/// An MP4 file with one audio track of the given sample entry.
fn mp4(entry: &[u8; 4]) -> Vec<u8> {
    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat()
    }
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_be_bytes()).collect() };
    let hdlr = [&words(&[0, 0])[..], b"soun", &[0; 13]].concat();
    let mut sample = vec![0u8; 28];
    sample[7] = 1;
    let stsd = [words(&[0, 1]), boxed(entry, &sample)].concat();
    let stbl = boxed(b"stbl", &boxed(b"stsd", &stsd));
    let mdia = [
        boxed(b"mdhd", &words(&[0, 0, 0, 44_100, 441_000, 0])),
        boxed(b"hdlr", &hdlr),
        boxed(b"minf", &stbl),
    ];
    let trak = boxed(b"trak", &boxed(b"mdia", &mdia.concat()));
    let moov = boxed(b"moov", &[boxed(b"mvhd", &words(&[0, 0, 0, 1_000, 10_000])), trak].concat());
    [boxed(b"ftyp", b"M4P \0\0\0\0"), moov, boxed(b"mdat", &[0; 5_000])].concat()
}

#[test]
fn protected_files_say_so() {
    let folder = tempfile::tempdir().unwrap();
    for entry in [b"drms", b"enca"] {
        let error = error_of(&write(&folder, "song.m4p", &mp4(entry)));
        assert!(matches!(error, AnalyzeError::Encrypted(_)), "{error}");
        assert_eq!(error.class(), ErrorClass::Skipped);
    }
    assert!(!matches!(error_of(&write(&folder, "song.m4a", &mp4(b"mp4a"))), AnalyzeError::Encrypted(_)));
}

/// Eight seconds of something in every container.
fn fixtures(folder: &Path) -> Option<Vec<(&'static str, PathBuf)>> {
    fixtures_of(folder, 8)
}

fn fixtures_of(folder: &Path, seconds: u32) -> Option<Vec<(&'static str, PathBuf)>> {
    for program in ["ffmpeg", "jmac"] {
        if !has_program(program) {
            skip_or_fail(program);
            return None;
        }
    }
    let source = folder.join("source.wav");
    let sound = format!(
        "sine=330:d={seconds},tremolo=5:0.8[a];anoisesrc=d={seconds}:c=pink:a=0.2:seed=1[b];[a][b]amix=2"
    );
    run(Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &sound, "-ac", "2", "-ar", "22050"])
        .arg(&source));
    let names = [
        "mp3 128 kbit/s",
        "ogg vorbis",
        "ogg flac",
        "flac",
        "m4a aac",
        "m4a alac",
        "aac adts",
        "opus",
        "wav",
        "aiff",
        "mka vorbis",
        "mka opus",
        "wma 2",
        "ape",
    ];
    let chosen = ENCODINGS.iter().filter(|encoding| names.contains(&encoding.name));
    Some(chosen.map(|encoding| (encoding.name, encode(&source, encoding, folder, seconds))).collect())
}

#[test]
fn cut_and_changed_files_end_well() {
    let folder = tempfile::tempdir().unwrap();
    let Some(fixtures) = fixtures(folder.path()) else { return };
    let analyzer = analyzer();
    let mut noise = Noise(42);
    for (name, path) in fixtures {
        let whole = fs::read(&path).unwrap();
        let complete = analyzer.analyze(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let target = folder.path().join("damaged");
        // A foreign program decodes WMA, in a tenth of a second each.
        let tries = if complete.container == Container::Wma { 3 } else { 25 };
        for number in 0..tries {
            let length = match number % 3 {
                0 => noise.next() as usize % 300,
                1 => noise.next() as usize % 5_000,
                _ => noise.next() as usize,
            } % whole.len();
            fs::write(&target, &whole[..length]).unwrap();
            match analyzer.analyze(&target) {
                Ok(analysis) => {
                    assert!(analysis.duration_ms <= complete.duration_ms + 100, "{name} cut at {length}")
                }
                Err(AnalyzeError::Timeout(_)) => panic!("{name} cut at {length} took too long"),
                Err(_) => {}
            }
        }
        for number in 0..tries {
            let mut bytes = whole.clone();
            let reach = if number % 2 == 0 { bytes.len().min(1_000) } else { bytes.len() };
            for _ in 0..=noise.next() % 30 {
                let at = noise.next() as usize % reach;
                bytes[at] = noise.next() as u8;
            }
            fs::write(&target, &bytes).unwrap();
            if let Err(error @ AnalyzeError::Timeout(_)) = analyzer.analyze(&target) {
                panic!("{name} changed: {error}");
            }
            let _ = analyzer.cover(&target);
        }
    }
}

#[test]
fn interrupted_copies_are_no_songs() {
    let folder = tempfile::tempdir().unwrap();
    let Some(fixtures) = fixtures_of(folder.path(), 60) else { return };
    for (name, path) in fixtures {
        let whole = fs::read(&path).unwrap();
        for percent in [1, 50, 90, 99] {
            let cut = &whole[..whole.len() * percent / 100];
            let error = error_of(&write(&folder, "cut", cut));
            assert!(matches!(error, AnalyzeError::Truncated(_)), "{name} cut to {percent} %: {error}");
            assert_eq!(error.class(), ErrorClass::Failed);
            if name == "wav" && percent == 50 {
                let (promised, there) = ("5,292,000 bytes of audio", "2,645,961");
                let text = format!("the file is cut off: its header promises {promised}, {there} are there");
                assert_eq!(error.to_string(), text);
            }
        }
    }
}

/// Tags of other formats that programs append to whole files.
fn appended() -> [Vec<u8>; 2] {
    let id3v1 = [&b"TAG"[..], &[b' '; 125]].concat();
    let mut ape = b"APETAGEX\xd0\x07\0\0\x40\0\0\0\0\0\0\0\0\0\0\xa0".to_vec();
    ape.resize(32, 0);
    ape.extend(b"\x19\0\0\0\0\0\0\0Title\0");
    ape.resize(64, b'x');
    ape.extend(b"APETAGEX\xd0\x07\0\0\x40\0\0\0\x01\0\0\0\0\0\0\x80");
    ape.resize(96, 0);
    [[&ape[..], &id3v1].concat(), vec![0; 5_000]]
}

#[test]
fn whole_files_are_not_called_cut() {
    let folder = tempfile::tempdir().unwrap();
    let Some(fixtures) = fixtures(folder.path()) else { return };
    for (name, path) in fixtures {
        let whole = fs::read(&path).unwrap();
        for end in appended() {
            let tagged = write(&folder, "tagged", &[&whole[..], &end].concat());
            if let Err(error) = analyzer().analyze(&tagged) {
                panic!("{name} with {} bytes: {error}", end.len());
            }
        }
    }
}

/// What an encoder writes into a pipe cannot be corrected once its length is known.
#[test]
fn streamed_files_are_not_called_cut() {
    if !has_program("ffmpeg") {
        return skip_or_fail("ffmpeg");
    }
    let folder = tempfile::tempdir().unwrap();
    let kinds: [(&str, &[&str]); 9] = [
        ("wav", &["-c:a", "pcm_s16le"]),
        ("aiff", &["-c:a", "pcm_s16be"]),
        ("flac", &["-c:a", "flac"]),
        ("ogg", &["-c:a", "libvorbis"]),
        ("mp3", &["-c:a", "libmp3lame"]),
        ("matroska", &["-c:a", "libvorbis"]),
        ("mp4", &["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"]),
        ("asf", &["-c:a", "wmav2"]),
        ("adts", &["-c:a", "aac"]),
    ];
    for (format, arguments) in kinds {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-f", "lavfi", "-i", "anoisesrc=d=6:c=pink:seed=3", "-f", format]);
        let output = command.args(arguments).arg("pipe:1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // That some decoder needs a length is another matter.
        let analysis = analyzer().analyze(&write(&folder, "streamed", &output.stdout));
        if let Err(error @ AnalyzeError::Truncated(_)) = analysis {
            panic!("{format}: {error}");
        }
    }
}

#[test]
fn wma_without_ffmpeg_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let Some(fixtures) = fixtures(folder.path()) else { return };
    let (_, wma) = fixtures.iter().find(|(name, _)| name.starts_with("wma")).unwrap();
    let without =
        Analyzer::new(AnalyzerConfig { ffmpeg: FfmpegChoice::Without, ..AnalyzerConfig::default() });
    assert!(!without.has_ffmpeg());
    assert!(matches!(without.analyze(wma), Err(AnalyzeError::NeedsFfmpeg)));
    let missing = FfmpegChoice::Program(folder.path().join("no-such-program"));
    let missing = Analyzer::new(AnalyzerConfig { ffmpeg: missing, ..AnalyzerConfig::default() });
    assert!(matches!(missing.analyze(wma), Err(AnalyzeError::Ffmpeg(_))));
}

#[cfg(unix)]
#[test]
fn a_hanging_ffmpeg_is_stopped() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let Some(fixtures) = fixtures(folder.path()) else { return };
    let (_, wma) = fixtures.iter().find(|(name, _)| name.starts_with("wma")).unwrap();
    let program = folder.path().join("hangs");
    fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let timeout = Duration::from_millis(700);
    let config = AnalyzerConfig { ffmpeg: FfmpegChoice::Program(program), timeout };
    assert!(matches!(Analyzer::new(config).analyze(wma), Err(AnalyzeError::Timeout(_))));
}

#[cfg(unix)]
#[test]
fn strange_names_are_only_names() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let Some(fixtures) = fixtures(folder.path()) else { return };
    for (name, path) in fixtures.iter().filter(|(name, _)| ["wma 2", "flac"].contains(name)) {
        for strange in [&b"-i"[..], b"http:", b"concat:a|b", b"%03d", b"n\xffo\xfe", b"a\nb", b"pipe:0"] {
            let target = folder.path().join(OsStr::from_bytes(strange));
            fs::copy(path, &target).unwrap();
            let analysis =
                analyzer().analyze(&target).unwrap_or_else(|error| panic!("{name} {strange:?}: {error}"));
            assert!(!analysis.tags.title.is_empty());
        }
    }
}

#[test]
fn id3_in_front_of_anything() {
    let folder = tempfile::tempdir().unwrap();
    let Some(fixtures) = fixtures(folder.path()) else { return };
    for (name, path) in fixtures {
        if !["mp3 128 kbit/s", "aac adts", "flac", "ape"].contains(&name) {
            continue;
        }
        let expected = analyzer().analyze(&path).unwrap();
        let tag = [&b"ID3\x03\0\0\0\0\x01\x17TIT2\0\0\0\x06\0\0\0Hello"[..], &[0; 135]].concat();
        assert_eq!(tag.len(), 10 + (1 << 7) + 0x17, "the size in its header");
        let tagged = write(&folder, "tagged", &[tag, fs::read(&path).unwrap()].concat());
        let found = analyzer().analyze(&tagged).unwrap();
        assert_eq!(found.container, expected.container, "{name}");
        assert_eq!(found.fingerprint, expected.fingerprint, "{name}");
        assert_eq!(found.duration_ms, expected.duration_ms, "{name}");
        if name != "flac" && name != "ape" {
            assert_eq!(found.tags.title, "Hello", "{name}");
        }
    }
}
