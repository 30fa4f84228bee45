//! Everything that symphonia decodes, with a decoder of another crate for Opus.
//!
//! Delays at the start are cut here and not by symphonia's decoders, because what has to be cut is what FFmpeg
//! cuts: the fingerprints of the same file must be the same.

use std::io::{self, Seek, SeekFrom};
use std::sync::OnceLock;
use std::time::Instant;

use antiphon_proto::Container;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known as codec;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::errors::Error;
use symphonia::core::formats::{Attachment, FileAttachment, FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadBytes};
use symphonia::core::meta::MetadataRevision;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::formats as readers;

use super::gather::{Gaps, Gather, Gathered};
use super::{Decoded, check_deadline, finish, opus, timed_out};
use crate::audio::Progress;
use crate::container::{adts, mp3, mp4, ogg};
use crate::error::AnalyzeError;
use crate::limits::MAX_COVER_BYTES;
use crate::source::Window;

/// What this crate finds out about a stream before symphonia opens it.
#[derive(Debug, Default, Clone, Copy)]
struct Facts {
    /// Whole length.
    duration_ms: Option<u64>,
    /// Position of the last sample of an Ogg stream.
    end: Option<u64>,
    /// Frames to drop at the start, known before decoding.
    skip: Skip,
}

#[derive(Debug, Default, Clone, Copy)]
enum Skip {
    /// Whatever the packets say.
    #[default]
    ByPackets,
    /// This many frames, and so many after them count.
    Frames(u64, u64),
    /// By the edit list of an MP4 file.
    Edits(mp4::AudioTrack),
}

/// One opened stream.
struct Stream {
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    started: Instant,
    deadline: Instant,
    container: Container,
    /// Position after the last frame, in the track's time base.
    end: Option<Timestamp>,
}

pub(super) fn decode(container: Container, mut window: Window) -> Result<Decoded, AnalyzeError> {
    let started = Instant::now();
    let deadline = window.deadline();
    let facts = facts(container, &mut window)?;
    let length = window.len();
    let reader = open(container, window).map_err(|error| reason(error, started, deadline))?;
    let track = audio_track(reader.as_ref())?.clone();
    let Some(CodecParameters::Audio(params)) = &track.codec_params else {
        return Err(AnalyzeError::Unsupported("a file without an audio codec".into()));
    };
    let decoder = make_decoder(params, &facts)?;
    let name = codec_name(params.codec);
    let lossless = is_lossless(params.codec);
    let end = facts.end.or(track.num_frames).and_then(|end| i64::try_from(end).ok()).map(Timestamp::new);
    let mut stream = Stream { reader, decoder, track: track.id, started, deadline, container, end };
    let collected = stream.collect(&facts, params)?;
    let by_container = facts
        .duration_ms
        .or_else(|| ogg_duration_ms(facts.end?, &track, params))
        .or_else(|| track_duration_ms(&track, stream.reader.as_ref()));
    let duration_ms = match by_container {
        Some(duration) => duration,
        // Only a stream that was decoded to its end tells its length by itself.
        None if collected.complete => collected.decoded_ms(),
        None => {
            return Err(AnalyzeError::Unsupported(format!("a stream of unknown length ({length} bytes)")));
        }
    };
    let Gathered { collector, rate, channels, damage, .. } = collected;
    Ok(Decoded {
        codec: name,
        duration_ms,
        sample_rate: rate,
        channels,
        lossless,
        fingerprint: finish(collector, rate, duration_ms, damage)?,
    })
}

/// What a container says beside its audio.
#[derive(Default)]
pub(crate) struct ContainerMetadata {
    pub(crate) revisions: Vec<MetadataRevision>,
    pub(crate) attachments: Vec<Attachment>,
}

/// Metadata at the start of a container, for those whose tags only symphonia reads here.
pub(crate) fn read_metadata(container: Container, window: Window) -> ContainerMetadata {
    let Ok(mut reader) = open(container, window) else { return ContainerMetadata::default() };
    let attachments = reader
        .attachments()
        .iter()
        .filter_map(|attachment| match attachment {
            Attachment::File(file) if file.data.len() <= MAX_COVER_BYTES => {
                Some(Attachment::File(FileAttachment {
                    name: file.name.clone(),
                    description: None,
                    media_type: None,
                    data: file.data.clone(),
                }))
            }
            _ => None,
        })
        .collect();
    let mut metadata = reader.metadata();
    let mut revisions = Vec::new();
    while let Some(revision) = metadata.pop() {
        revisions.push(revision);
    }
    revisions.extend(metadata.current().cloned());
    ContainerMetadata { revisions, attachments }
}

fn facts(container: Container, window: &mut Window) -> Result<Facts, AnalyzeError> {
    let end = window.len();
    let facts = match container {
        Container::Mp3 => {
            let stream = mp3::measure(window, 0, end)?;
            if stream.header.layer != 3 {
                return Err(AnalyzeError::Unsupported("MPEG layer II".into()));
            }
            Facts {
                duration_ms: Some(stream.samples * 1_000 / u64::from(stream.header.rate)),
                end: None,
                skip: Skip::Frames(u64::from(stream.skip), stream.played.unwrap_or(u64::MAX)),
            }
        }
        Container::Aac => {
            let samples = adts::measure(window, 0, end)?;
            window.seek(SeekFrom::Start(0))?;
            let mut head = [0u8; 16];
            io::Read::read_exact(window, &mut head)?;
            let rate = adts::Header::parse(&head).map_or(44_100, |header| header.rate);
            Facts {
                duration_ms: Some(samples * 1_000 / u64::from(rate)),
                end: None,
                skip: Skip::Frames(0, u64::MAX),
            }
        }
        Container::M4a => match mp4::read(window, 0, end)? {
            Some(track) => {
                if let Some(protection) = track.protection() {
                    return Err(AnalyzeError::Encrypted(protection));
                }
                Facts { duration_ms: track.duration_ms(), end: None, skip: Skip::Edits(track) }
            }
            None => Facts::default(),
        },
        Container::Ogg | Container::Opus => {
            Facts { end: ogg::measure(window, end)?.map(|stream| stream.end), ..Facts::default() }
        }
        _ => Facts::default(),
    };
    window.seek(SeekFrom::Start(0))?;
    Ok(facts)
}

/// Opens the one reader that the magic bytes call for; nothing is probed.
fn open(container: Container, window: Window) -> Result<Box<dyn FormatReader>, Error> {
    let mut stream = MediaSourceStream::new(Box::new(window), Default::default());
    let options = FormatOptions::default();
    Ok(match container {
        Container::Ogg | Container::Opus => Box::new(readers::OggReader::try_new(stream, options)?),
        Container::Mp3 => Box::new(readers::MpaReader::try_new(stream, options)?),
        Container::Flac => Box::new(readers::FlacReader::try_new(stream, options)?),
        Container::M4a => {
            // This reader expects to be called behind the size of the first box.
            stream.read_quad_bytes()?;
            Box::new(readers::IsoMp4Reader::try_new(stream, options)?)
        }
        Container::Aac => Box::new(readers::AdtsReader::try_new(stream, options)?),
        Container::Wav => Box::new(readers::WavReader::try_new(stream, options)?),
        Container::Aiff => Box::new(readers::AiffReader::try_new(stream, options)?),
        Container::Mka => Box::new(readers::MkvReader::try_new(stream, options)?),
        Container::Wma | Container::Ape | Container::Unknown => {
            return Err(Error::Unsupported("this container"));
        }
    })
}

fn audio_track(reader: &dyn FormatReader) -> Result<&Track, AnalyzeError> {
    if reader.first_track_known_codec(TrackType::Video).is_some() {
        return Err(AnalyzeError::Unsupported("a video file".into()));
    }
    reader
        .first_track_known_codec(TrackType::Audio)
        .ok_or_else(|| AnalyzeError::Unsupported("a file without an audio track of a known codec".into()))
}

fn registry() -> &'static CodecRegistry {
    static REGISTRY: OnceLock<CodecRegistry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let mut registry = CodecRegistry::new();
        symphonia::default::register_enabled_codecs(&mut registry);
        registry.register_audio_decoder::<opus::Opus>();
        registry
    })
}

fn make_decoder(params: &AudioCodecParameters, facts: &Facts) -> Result<Box<dyn AudioDecoder>, AnalyzeError> {
    let gapless = matches!(facts.skip, Skip::ByPackets);
    let options = AudioDecoderOptions::default().gapless(gapless);
    registry().make_audio_decoder(params, &options).map_err(|error| match error {
        Error::Unsupported(what) => {
            AnalyzeError::Unsupported(format!("{} ({what})", codec_name(params.codec)))
        }
        other => AnalyzeError::Corrupt(other.to_string()),
    })
}

/// Pre-skip of an `OpusHead` (RFC 7845, 5.1), in frames of 48 kHz.
fn opus_pre_skip(params: &AudioCodecParameters) -> u64 {
    let head = params.extra_data.as_deref().unwrap_or(&[]);
    // Its MP4 form (`dOps`) has no signature and is big-endian.
    match head {
        [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', _, _, low, high, ..] => {
            u64::from(u16::from_le_bytes([*low, *high]))
        }
        [_, _, high, low, ..] => u64::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

impl Stream {
    /// Decodes until the fingerprint has enough, the stream ends, or it is too damaged.
    fn collect(&mut self, facts: &Facts, params: &AudioCodecParameters) -> Result<Gathered, AnalyzeError> {
        let mut gather = Gather::new(self.container == Container::Mp3);
        let mut damage = None;
        let mut complete = false;
        loop {
            check_deadline(self.started, self.deadline)?;
            let mut packet = match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => packet,
                Ok(Some(_)) => continue,
                Ok(None) => {
                    complete = true;
                    break;
                }
                Err(error) => {
                    damage = Some(match error {
                        Error::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                            AnalyzeError::Truncated("in its audio data".into())
                        }
                        other => reason(other, self.started, self.deadline),
                    });
                    break;
                }
            };
            self.correct_trim(&mut packet);
            match self.decoder.decode(&packet) {
                Ok(audio) => {
                    if gather.take(&audio, params, |rate| facts.gaps(params, rate))? == Progress::Done {
                        break;
                    }
                }
                Err(Error::DecodeError(_) | Error::IoError(_)) if gather.miss(packet.dur.get()) => {}
                Err(error) => {
                    damage = Some(reason(error, self.started, self.deadline));
                    break;
                }
            }
        }
        if let Some(timeout @ AnalyzeError::Timeout(_)) = damage {
            return Err(timeout);
        }
        gather.finish(complete, damage)
    }
}

impl Stream {
    /// In Ogg, the packets of the first page can hold more than its position says. RFC 3533 leaves open what
    /// that means; symphonia cuts the page's end, FFmpeg plays all of it. Only the end of the stream is cut.
    fn correct_trim(&self, packet: &mut Packet) {
        if matches!(self.container, Container::Ogg | Container::Opus) {
            packet.trim_start = Duration::ZERO;
            let ends = packet.pts.saturating_add(packet.dur);
            if self.end.is_none_or(|end| ends < end) {
                packet.trim_end = Duration::ZERO;
            }
        }
    }
}

impl Facts {
    /// Frames of `rate` Hz to drop at the start, and how many count after them.
    fn gaps(&self, params: &AudioCodecParameters, rate: u32) -> Gaps {
        if params.codec == codec::CODEC_ID_OPUS {
            return Gaps { skip: opus_pre_skip(params), limit: u64::MAX };
        }
        match self.skip {
            Skip::ByPackets => Gaps { skip: 0, limit: u64::MAX },
            Skip::Frames(skip, limit) => Gaps { skip, limit },
            Skip::Edits(track) => Gaps { skip: track.skip_frames(rate), limit: u64::MAX },
        }
    }
}

/// Length of an Ogg stream by its last position. Recordings of broadcasts start at a later one than zero.
fn ogg_duration_ms(end: u64, track: &Track, params: &AudioCodecParameters) -> Option<u64> {
    let is_opus = params.codec == codec::CODEC_ID_OPUS;
    let (rate, pre_skip) =
        if is_opus { (opus::RATE, opus_pre_skip(params)) } else { (params.sample_rate?, 0) };
    let start = u64::try_from(track.start_ts.get()).unwrap_or(0);
    let samples = end.checked_sub(start.max(pre_skip)).filter(|&samples| samples > 0)?;
    u64::try_from(u128::from(samples) * 1_000 / u128::from(rate.max(1))).ok()
}

/// Length of a track by its container, in milliseconds.
fn track_duration_ms(track: &Track, reader: &dyn FormatReader) -> Option<u64> {
    let media = reader.media_info();
    let by_track = track.time_base.zip(track.duration);
    let by_media = media.time_base.zip(media.duration);
    by_track.or(by_media).and_then(|(base, duration)| {
        let millis = base.calc_duration(duration)?.as_millis();
        u64::try_from(millis).ok().filter(|&ms| ms > 0)
    })
}

fn reason(error: Error, started: Instant, deadline: Instant) -> AnalyzeError {
    match error {
        Error::IoError(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => AnalyzeError::Truncated("in its headers".into()),
            io::ErrorKind::TimedOut => timed_out(started, deadline),
            _ => error.into(),
        },
        Error::Unsupported(what) => AnalyzeError::Unsupported(what.into()),
        other => AnalyzeError::Corrupt(other.to_string()),
    }
}

fn codec_name(id: AudioCodecId) -> String {
    if let Some(known) = registry().get_audio_decoder(id) {
        return known.codec.info.short_name.to_owned();
    }
    id.to_string()
}

fn is_lossless(id: AudioCodecId) -> bool {
    matches!(id, codec::CODEC_ID_FLAC | codec::CODEC_ID_ALAC)
        || codec_name(id).starts_with("pcm_s")
        || codec_name(id).starts_with("pcm_u")
        || codec_name(id).starts_with("pcm_f")
}
