//! Opus (RFC 6716) for symphonia, which has no decoder of its own: a pure Rust one behind its interface, so that
//! building needs no C library and no CMake.
//!
//! The pre-skip is not cut here: whoever collects the samples counts it over as many packets as it takes.

use opus_pure::{Error as OpusError, OpusDecoder, OpusMSDecoder};
use symphonia::core::audio::{
    AsGenericAudioBufferRef, AudioBuffer, AudioMut, AudioSpec, Channels, GenericAudioBufferRef,
};
use symphonia::core::codecs::CodecInfo;
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions, FinalizeResult, well_known::CODEC_ID_OPUS,
};
use symphonia::core::codecs::registry::{RegisterableAudioDecoder, SupportedAudioCodec};
use symphonia::core::errors::{Error, Result};
use symphonia::core::packet::PacketRef;

/// Every Opus stream can be decoded to this rate, and FFmpeg does.
pub(super) const RATE: u32 = 48_000;

/// As the decoder wants it.
const RATE_HZ: i32 = 48_000;

/// Longest packet: 120 ms (RFC 6716, 3.2.5).
const PACKET_FRAMES: usize = RATE as usize / 1_000 * 120;

/// Most channels: surround of 7.1 is the largest layout of mapping family 1 (RFC 7845, 5.1.1.2).
const CHANNELS: usize = 8;

/// Decoder of one stream.
pub(super) struct Opus {
    params: AudioCodecParameters,
    streams: Streams,
    channels: usize,
    interleaved: Vec<f32>,
    buffer: AudioBuffer<f32>,
}

enum Streams {
    One(Box<OpusDecoder>),
    Many(Box<OpusMSDecoder>),
}

/// Mapping family of an `OpusHead` (RFC 7845, 5.1.1); 0 without one.
fn mapping_family(params: &AudioCodecParameters) -> u8 {
    let head = params.extra_data.as_deref().unwrap_or(&[]);
    head.get(18).copied().filter(|_| head.starts_with(b"OpusHead")).unwrap_or(0)
}

fn failed(error: &OpusError) -> Error {
    match error {
        OpusError::InvalidArgument(_) => Error::Unsupported("opus: this layout of channels"),
        _ => Error::DecodeError("opus: malformed packet"),
    }
}

impl Opus {
    fn new(params: &AudioCodecParameters) -> Result<Self> {
        let layout = params.channels.clone().ok_or(Error::Unsupported("opus: no number of channels"))?;
        let channels = layout.count();
        let family = mapping_family(params);
        let streams = match (family, channels) {
            (0, 1 | 2) => OpusDecoder::new(RATE_HZ, channels).map(|one| Streams::One(Box::new(one))),
            (1, 1..=CHANNELS) => {
                OpusMSDecoder::new(RATE_HZ, channels, family).map(|many| Streams::Many(Box::new(many)))
            }
            _ => return Err(Error::Unsupported("opus: this layout of channels")),
        };
        let streams = streams.map_err(|error| failed(&error))?;
        Ok(Self {
            params: params.clone(),
            streams,
            channels,
            interleaved: vec![0.0; PACKET_FRAMES * channels],
            buffer: buffer(layout),
        })
    }
}

fn buffer(layout: Channels) -> AudioBuffer<f32> {
    AudioBuffer::new(AudioSpec::new(RATE, layout), PACKET_FRAMES)
}

impl AudioDecoder for Opus {
    fn codec_info(&self) -> &CodecInfo {
        &SUPPORTED[0].info
    }

    fn reset(&mut self) {
        // It cannot fail for a decoder that was made.
        let _ = match &mut self.streams {
            Streams::One(decoder) => decoder.reset_state(),
            Streams::Many(decoder) => decoder.reset_state(),
        };
    }

    fn codec_params(&self) -> &AudioCodecParameters {
        &self.params
    }

    fn decode_ref(&mut self, packet: &PacketRef<'_>) -> Result<GenericAudioBufferRef<'_>> {
        self.buffer.clear();
        // To the decoder an empty packet is a lost one, which it would fill with a guess.
        if packet.data.is_empty() {
            return Err(Error::DecodeError("opus: empty packet"));
        }
        let decoded = match &mut self.streams {
            Streams::One(decoder) => decoder.decode(packet.data, PACKET_FRAMES, &mut self.interleaved),
            Streams::Many(decoder) => decoder.decode(packet.data, PACKET_FRAMES, &mut self.interleaved),
        };
        let frames = decoded.map_err(|error| failed(&error))?.min(PACKET_FRAMES);
        self.buffer.render_uninit(Some(frames));
        for (channel, plane) in self.buffer.iter_planes_mut().enumerate() {
            let samples = self.interleaved.iter().skip(channel).step_by(self.channels);
            for (target, sample) in plane.iter_mut().zip(samples) {
                *target = *sample;
            }
        }
        let trim = |duration: u64| usize::try_from(duration).unwrap_or(usize::MAX);
        self.buffer.trim(trim(packet.trim_start.get()), trim(packet.trim_end.get()));
        Ok(self.buffer.as_generic_audio_buffer_ref())
    }

    fn finalize(&mut self) -> FinalizeResult {
        FinalizeResult::default()
    }

    fn last_decoded(&self) -> GenericAudioBufferRef<'_> {
        self.buffer.as_generic_audio_buffer_ref()
    }
}

const SUPPORTED: &[SupportedAudioCodec] = &[SupportedAudioCodec {
    id: CODEC_ID_OPUS,
    info: CodecInfo { short_name: "opus", long_name: "Opus", profiles: &[] },
}];

impl RegisterableAudioDecoder for Opus {
    fn try_registry_new(
        params: &AudioCodecParameters,
        _: &AudioDecoderOptions,
    ) -> Result<Box<dyn AudioDecoder>> {
        Ok(Box::new(Self::new(params)?))
    }

    fn supported_codecs() -> &'static [SupportedAudioCodec] {
        SUPPORTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_family_is_read_where_there_is_one() {
        let family = |head: &[u8]| {
            let mut params = AudioCodecParameters::new();
            params.with_extra_data(head.into());
            mapping_family(&params)
        };
        let head = b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05";
        assert_eq!(family(head), 1);
        assert_eq!(family(&head[..18]), 0);
        assert_eq!(family(b"not such a head, but long enough"), 0);
    }
}
