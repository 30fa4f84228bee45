//! Tags and covers of every container, written by FFmpeg.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test stops where it goes wrong"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use antiphon_fingerprint::{Analyzer, AnalyzerConfig};
use antiphon_proto::Container;
use support::{has_program, run, skip_or_fail};

const TITLE: &str = "Tïtle | with — odd \"signs\" ♫";

/// Container, file name, and encoder arguments.
const KINDS: [(Container, &str, &[&str]); 11] = [
    (Container::Mp3, "a.mp3", &["-c:a", "libmp3lame"]),
    (Container::Ogg, "a.ogg", &["-c:a", "libvorbis"]),
    (Container::Ogg, "a.oga", &["-c:a", "flac", "-f", "ogg"]),
    (Container::Flac, "a.flac", &["-c:a", "flac"]),
    (Container::M4a, "a.m4a", &["-c:a", "aac"]),
    (Container::M4a, "b.m4a", &["-c:a", "alac"]),
    (Container::Opus, "a.opus", &["-c:a", "libopus"]),
    (Container::Mka, "a.mka", &["-c:a", "libvorbis"]),
    (Container::Wma, "a.wma", &["-c:a", "wmav2"]),
    (Container::Wav, "a.wav", &["-c:a", "pcm_s16le"]),
    (Container::Aiff, "a.aiff", &["-c:a", "pcm_s16be", "-write_id3v2", "1"]),
];

fn make(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", "anoisesrc=d=6:c=pink:seed=3"]);
    command.args(arguments);
    for (key, value) in [
        ("title", TITLE),
        ("artist", "An Artist"),
        ("album", "An Album"),
        ("album_artist", "All of them"),
        ("genre", "Folk"),
        ("date", "2009-05-01"),
        ("track", "3/12"),
    ] {
        command.arg("-metadata").arg(format!("{key}={value}"));
    }
    run(command.arg(&path));
    path
}

#[test]
fn every_container_tells_its_tags() {
    if !has_program("ffmpeg") {
        return skip_or_fail("ffmpeg");
    }
    let folder = tempfile::tempdir().unwrap();
    let analyzer = Analyzer::new(AnalyzerConfig::default());
    for (container, name, arguments) in KINDS {
        let path = make(folder.path(), name, arguments);
        let analysis = analyzer.analyze(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let tags = &analysis.tags;
        assert_eq!(analysis.container, container, "{name}");
        assert_eq!(tags.title, TITLE, "{name}");
        assert_eq!(tags.artist, "An Artist", "{name}");
        assert_eq!(tags.album, "An Album", "{name}");
        assert_eq!(tags.year, 2009, "{name}");
        assert_eq!(tags.genre, "Folk", "{name}");
        assert_eq!(tags.track, 3, "{name}");
        assert!(!tags.guessed, "{name}");
        // RIFF INFO has no such field.
        if container != Container::Wav {
            assert_eq!(tags.album_artist, "All of them", "{name}");
        }
    }
}

#[test]
fn covers_are_found() {
    if !has_program("ffmpeg") {
        return skip_or_fail("ffmpeg");
    }
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("cover.png");
    run(Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "color=red:s=32x32:d=1", "-frames:v", "1"])
        .arg(&picture));
    let analyzer = Analyzer::new(AnalyzerConfig::default());
    for (name, arguments) in
        [("c.mp3", ["-c:a", "libmp3lame"]), ("c.flac", ["-c:a", "flac"]), ("c.m4a", ["-c:a", "aac"])]
    {
        let path = folder.path().join(name);
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-f", "lavfi", "-i", "anoisesrc=d=6:c=pink:seed=3", "-i"]).arg(&picture);
        command.args(["-map", "0:a", "-map", "1:v", "-c:v", "copy", "-disposition:v", "attached_pic"]);
        run(command.args(arguments).arg(&path));
        let cover = analyzer.cover(&path).unwrap().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(cover.mime, "image/png", "{name}");
        assert_eq!(cover.bytes, std::fs::read(&picture).unwrap(), "{name}");
        assert!(analyzer.analyze(&path).is_ok(), "a cover is no video: {name}");
    }
    let attached = folder.path().join("c.mka");
    let mut command = Command::new("ffmpeg");
    command.args([
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "anoisesrc=d=6:c=pink:seed=3",
        "-c:a",
        "libvorbis",
        "-attach",
    ]);
    run(command.arg(&picture).args(["-metadata:s:t", "mimetype=image/png"]).arg(&attached));
    assert_eq!(analyzer.cover(&attached).unwrap().unwrap().mime, "image/png");

    let bare = make(folder.path(), "bare.ogg", &["-c:a", "libvorbis"]);
    assert_eq!(analyzer.cover(&bare).unwrap(), None);
}

#[test]
fn a_missing_tag_is_guessed_from_the_path() {
    if !has_program("ffmpeg") {
        return skip_or_fail("ffmpeg");
    }
    let folder = tempfile::tempdir().unwrap();
    let album = folder.path().join("music/Some Artist/2001 - Some Album");
    std::fs::create_dir_all(&album).unwrap();
    let path = album.join("04 - A Song.ogg");
    run(Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "anoisesrc=d=6", "-c:a", "libvorbis"])
        .arg(&path));
    let tags = Analyzer::new(AnalyzerConfig::default()).analyze(&path).unwrap().tags;
    assert!(tags.guessed);
    assert_eq!(
        (tags.title.as_str(), tags.artist.as_str(), tags.album.as_str()),
        ("A Song", "Some Artist", "Some Album")
    );
    assert_eq!((tags.track, tags.year), (4, 2001));
}
