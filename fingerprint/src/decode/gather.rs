//! From symphonia's decoded buffers to the collector, over damaged packets and odd sample formats.

use symphonia::core::audio::{Audio, AudioBuffer, GenericAudioBufferRef, sample::Sample as LibrarySample};
use symphonia::core::codecs::audio::AudioCodecParameters;

use crate::audio::{Collector, Precision, Progress, Sample};
use crate::error::AnalyzeError;
use crate::limits::MAX_BAD_PACKETS;

/// Most silent frames that stand for one damaged packet: the longest MPEG frame.
const MAX_SILENCE: u64 = 1_152;

/// Frames that an encoder added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gaps {
    /// To drop at the start.
    pub(super) skip: u64,
    /// That count after those.
    pub(super) limit: u64,
}

/// The audio of one stream on its way.
pub(super) struct Gather {
    /// Whether a damaged packet becomes silence, so that what follows keeps its place.
    keep_place: bool,
    /// Damaged packets since the last good one.
    bad: u32,
    /// Silence for damaged packets before the shape of the audio was known, in frames.
    lost: u64,
    found: Option<Gathered>,
}

/// What came of it.
pub(super) struct Gathered {
    pub(super) collector: Collector,
    pub(super) rate: u32,
    pub(super) channels: u16,
    /// What ended it too early, if anything did.
    pub(super) damage: Option<AnalyzeError>,
    /// Whether it was decoded to its end.
    pub(super) complete: bool,
}

impl Gather {
    /// FFmpeg plays silence for a damaged MPEG frame; other codecs lose the packet.
    pub(super) fn new(keep_place: bool) -> Self {
        Self { keep_place, bad: 0, lost: 0, found: None }
    }

    /// Takes one decoded buffer; `gaps` is asked once, with the sample rate.
    ///
    /// # Errors
    /// [`AnalyzeError::Unsupported`] for audio that the collector does not take.
    pub(super) fn take(
        &mut self,
        audio: &GenericAudioBufferRef<'_>,
        params: &AudioCodecParameters,
        gaps: impl FnOnce(u32) -> Gaps,
    ) -> Result<Progress, AnalyzeError> {
        self.bad = 0;
        if audio.is_empty() {
            return Ok(Progress::More);
        }
        let (rate, planes) = (audio.spec().rate(), audio.num_planes());
        if self.found.is_none() {
            let mut collector = Collector::new(rate, planes, precision(audio, params))?;
            let gaps = gaps(rate);
            collector.skip(gaps.skip);
            collector.limit(gaps.limit);
            let channels = u16::try_from(planes).unwrap_or(u16::MAX);
            let mut found = Gathered { collector, rate, channels, damage: None, complete: false };
            found.silence(self.lost);
            self.found = Some(found);
        }
        Ok(match &mut self.found {
            // A stream that changes its shape on the way is another stream: the first one counts.
            Some(found) if found.collector.fits(rate, planes) => push(&mut found.collector, audio),
            _ => Progress::Done,
        })
    }

    /// Notes a damaged packet of `frames`; false if there were too many in a row.
    pub(super) fn miss(&mut self, frames: u64) -> bool {
        self.bad += 1;
        if self.keep_place {
            let frames = frames.min(MAX_SILENCE);
            match &mut self.found {
                Some(found) => found.silence(frames),
                None => self.lost += frames,
            }
        }
        self.bad <= MAX_BAD_PACKETS
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// `damage`, or [`AnalyzeError::Corrupt`], if nothing at all could be decoded.
    pub(super) fn finish(
        self,
        complete: bool,
        damage: Option<AnalyzeError>,
    ) -> Result<Gathered, AnalyzeError> {
        match self.found {
            Some(found) => Ok(Gathered { damage, complete, ..found }),
            None => Err(damage.unwrap_or_else(|| AnalyzeError::Corrupt("no audio could be decoded".into()))),
        }
    }
}

impl Gathered {
    /// Milliseconds that were decoded.
    pub(super) fn decoded_ms(&self) -> u64 {
        self.collector.taken().saturating_mul(1_000) / u64::from(self.rate)
    }

    fn silence(&mut self, frames: u64) {
        let zeros = vec![0i16; usize::try_from(frames).unwrap_or(0)];
        let planes: Vec<&[i16]> = (0..self.channels).map(|_| zeros.as_slice()).collect();
        self.collector.push_planes(&planes);
    }
}

/// What FFmpeg would decode these samples to: 16 bits where they fit, else floats in the end.
fn precision(audio: &GenericAudioBufferRef<'_>, params: &AudioCodecParameters) -> Precision {
    match audio {
        GenericAudioBufferRef::U8(_) | GenericAudioBufferRef::S8(_) => Precision::Sixteen,
        GenericAudioBufferRef::U16(_) | GenericAudioBufferRef::S16(_) => Precision::Sixteen,
        GenericAudioBufferRef::S32(_) if params.bits_per_sample.is_some_and(|bits| bits <= 16) => {
            Precision::Sixteen
        }
        _ => Precision::Float,
    }
}

/// Gives one decoded buffer to the collector, whatever its sample format.
fn push(collector: &mut Collector, audio: &GenericAudioBufferRef<'_>) -> Progress {
    match audio {
        GenericAudioBufferRef::F32(buffer) => push_planes(collector, buffer),
        GenericAudioBufferRef::S16(buffer) => push_planes(collector, buffer),
        GenericAudioBufferRef::S32(buffer) => push_planes(collector, buffer),
        GenericAudioBufferRef::U8(buffer) => push_planes(collector, buffer),
        GenericAudioBufferRef::F64(buffer) => push_planes(collector, buffer),
        // Right-aligned in 32 bits, unlike the others.
        GenericAudioBufferRef::S24(buffer) => convert(collector, buffer, |sample| sample.inner() << 8),
        GenericAudioBufferRef::S8(buffer) => convert(collector, buffer, |sample| i16::from(sample) << 8),
        GenericAudioBufferRef::U16(buffer) => {
            convert(collector, buffer, |sample| (sample ^ 0x8000).cast_signed())
        }
        GenericAudioBufferRef::U24(buffer) => {
            convert(collector, buffer, |sample| ((sample.inner() ^ 0x80_0000) << 8).cast_signed())
        }
        GenericAudioBufferRef::U32(buffer) => {
            convert(collector, buffer, |sample| (sample ^ 0x8000_0000).cast_signed())
        }
    }
}

fn push_planes<S: Sample + LibrarySample>(collector: &mut Collector, buffer: &AudioBuffer<S>) -> Progress {
    let planes: Vec<&[S]> = buffer.iter_planes().collect();
    collector.push_planes(&planes)
}

fn convert<S: LibrarySample, T: Sample>(
    collector: &mut Collector,
    buffer: &AudioBuffer<S>,
    to: impl Fn(S) -> T,
) -> Progress {
    let planes: Vec<Vec<T>> =
        buffer.iter_planes().map(|plane| plane.iter().map(|&sample| to(sample)).collect()).collect();
    let planes: Vec<&[T]> = planes.iter().map(Vec::as_slice).collect();
    collector.push_planes(&planes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use symphonia::core::audio::{AsGenericAudioBufferRef, AudioMut, AudioSpec, layouts};

    const NO_GAPS: Gaps = Gaps { skip: 0, limit: u64::MAX };

    fn second(rate: u32) -> AudioBuffer<f32> {
        let frames = usize::try_from(rate).unwrap();
        let mut buffer = AudioBuffer::new(AudioSpec::new(rate, layouts::CHANNEL_LAYOUT_STEREO), frames);
        buffer.render_silence(Some(frames));
        for plane in buffer.iter_planes_mut() {
            plane
                .iter_mut()
                .enumerate()
                .for_each(|(at, sample)| *sample = if at % 90 < 45 { 0.3 } else { -0.3 });
        }
        buffer
    }

    #[test]
    fn damaged_packets_keep_or_lose_their_place() {
        let params = AudioCodecParameters::new();
        for (keep_place, expected) in [(true, 3 * 1_152 + 44_100), (false, 44_100)] {
            let mut gather = Gather::new(keep_place);
            assert!(gather.miss(1_152) && gather.miss(1_152));
            gather.take(&second(44_100).as_generic_audio_buffer_ref(), &params, |_| NO_GAPS).unwrap();
            assert!(gather.miss(u64::MAX));
            assert_eq!(gather.finish(true, None).ok().unwrap().collector.taken(), expected);
        }
    }

    #[test]
    fn too_much_damage_in_a_row_is_the_end() {
        let mut gather = Gather::new(false);
        for _ in 0..MAX_BAD_PACKETS {
            assert!(gather.miss(1));
        }
        assert!(!gather.miss(1));
        assert!(matches!(gather.finish(false, None), Err(AnalyzeError::Corrupt(_))));
    }

    #[test]
    fn a_change_of_shape_ends_the_stream() {
        let params = AudioCodecParameters::new();
        let mut gather = Gather::new(false);
        let first = second(44_100);
        assert_eq!(
            gather.take(&first.as_generic_audio_buffer_ref(), &params, |_| NO_GAPS).unwrap(),
            Progress::More
        );
        let other = second(48_000);
        assert_eq!(
            gather.take(&other.as_generic_audio_buffer_ref(), &params, |_| NO_GAPS).unwrap(),
            Progress::Done
        );
        let gathered = gather.finish(false, None).ok().unwrap();
        assert_eq!((gathered.rate, gathered.decoded_ms()), (44_100, 1_000));
    }
}
