//! `/antiphon/play/1`: whose wallet a peer is paid to, and plays that it witnesses.
//!
//! **Participants.** The listener asks and says its heartbeats; the peer that serves the song answers each.
//!
//! **Messages.** `who` is answered by a wallet key, and the stream is over. `start` is answered by the same key; then each
//! heartbeat is answered by the witness's signature over the receipt that came with it, or by no bytes when none came. A
//! refusal ends the stream.
//!
//! **Goals.** However a play ends, both have the last receipt that was answered. The witness hands on the last one that it
//! has signed, once, when the stream is over: in order, by silence, by a broken connection or by its own end.
//!
//! What is agreed on, and how it is checked, is in [`crate::play`].

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use antiphon_proto::{
    NetworkId, PublicKey, canonical, limits,
    wire::{
        PlayBeat, PlayMessage, PlayRefusalCode, PlayReply, PlayStart, Receipt, StreamErrorCode, WhoRequest,
        play_message, play_reply,
    },
};
use futures::AsyncWriteExt;
use libp2p::PeerId;
use tokio::{runtime::Handle, sync::mpsc, time};
use tokio_util::task::TaskTracker;

use super::{
    Fault, PLAY, Server, frame,
    frame::FrameError,
    malformed, report,
    request::{self, Question},
};
use crate::{
    config::Timeouts,
    error::{PlayError, RequestError},
    play::{Hearing, PlayRefused, Witnessing, check_start},
    score::Offence,
    services::Witness,
    slots::{Slot, Slots},
    streams::{Opener, PeerStream},
    swarm::Command,
};

/// Plays witnessed at once: each is a task of some kilobytes and two signatures in a heartbeat. They stay for as long as
/// a song, so they have places of their own.
const PLAYS: usize = 1_024;
/// Plays of one peer: the people of a household may listen through one.
const PLAYS_PER_PEER: usize = 8;
/// What is awaited, for messages.
const REPLY: &str = "witness's reply";

/// What bounds the plays of all peers together.
pub(crate) struct Places {
    plays: Slots,
    /// A listener hears one thing at a time.
    listeners: Slots<PublicKey>,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self { plays: Slots::new(PLAYS, PLAYS_PER_PEER), listeners: Slots::new(PLAYS, 1) }
    }
}

/// Answers one stream. A play gives its general place back when it has got one of its own.
pub(crate) async fn answer(
    server: &Server,
    peer: PeerId,
    stream: &mut PeerStream,
    general: &mut Option<Slot>,
) -> Result<(), Fault> {
    let bytes = server.read_request(stream, limits::PLAY_MESSAGE_BYTES).await?;
    let refused = match decode(&bytes)?.body {
        Some(play_message::Body::Who(who)) => match is_ready(server, Some(&who.network)) {
            Ok((_, wallet)) => {
                send(server, stream, play_reply::Body::Wallet(wallet.0.to_vec())).await?;
                return server.close(stream).await;
            }
            Err(refused) => refused,
        },
        Some(play_message::Body::Start(start)) => match begin(server, peer, start).await? {
            Ok(play) => {
                *general = None;
                return play.run(server, stream).await;
            }
            Err(refused) => refused,
        },
        Some(play_message::Body::Beat(_)) => {
            PlayRefused::new(PlayRefusalCode::Malformed, "a heartbeat before the start")
        }
        // What a later version may say is no offence.
        None => {
            let unknown = PlayRefused::new(PlayRefusalCode::Unspecified, "this version does not know that");
            return refuse(server, stream, &unknown).await;
        }
    };
    refuse(server, stream, &refused).await
}

fn decode(bytes: &[u8]) -> Result<PlayMessage, Fault> {
    canonical::decode_lenient("play message", limits::PLAY_MESSAGE_BYTES, bytes).map_err(malformed)
}

/// The network and the wallet, if this peer can witness anything in the network that is asked for.
fn is_ready(server: &Server, network: Option<&[u8]>) -> Result<(NetworkId, PublicKey), PlayRefused> {
    let witness = &server.services.witness;
    let (Some(ours), Some(wallet)) = (witness.network(), witness.wallet()) else {
        return Err(PlayRefused::new(PlayRefusalCode::Busy, "this peer cannot witness a play now"));
    };
    if network.is_some_and(|network| network != ours.0) {
        return Err(PlayRefused::new(PlayRefusalCode::OtherNetwork, "this peer is of another network"));
    }
    Ok((ours, wallet))
}

async fn send(server: &Server, stream: &mut PeerStream, body: play_reply::Body) -> Result<(), Fault> {
    server.write(stream, &frame::encode(&PlayReply { body: Some(body) })).await?;
    server.flush(stream).await
}

/// Says no, and ends the stream. What no honest listener says is an offence.
async fn refuse(server: &Server, stream: &mut PeerStream, refused: &PlayRefused) -> Result<(), Fault> {
    send(server, stream, play_reply::Body::Refused(refused.to_wire())).await?;
    server.close(stream).await?;
    match refused.code {
        PlayRefusalCode::Malformed | PlayRefusalCode::BadSignature => Err(malformed(refused)),
        _ => Ok(()),
    }
}

async fn begin(server: &Server, peer: PeerId, start: PlayStart) -> Result<Result<Play, PlayRefused>, Fault> {
    let checked = is_ready(server, None).and_then(|(network, wallet)| {
        let listener = check_start(&network, &start)?;
        if start.witness != wallet.0 {
            let detail = "another witness is meant than this peer";
            return Err(PlayRefused::new(PlayRefusalCode::Disagrees, detail));
        }
        let busy = || PlayRefused::new(PlayRefusalCode::Busy, "too many plays are witnessed here already");
        let place = server.plays.plays.take(peer).ok_or_else(busy)?;
        let two = || PlayRefused::new(PlayRefusalCode::TwoSessions, "the listener hears something already");
        let turn = server.plays.listeners.take(listener).ok_or_else(two)?;
        Ok((network, wallet, place, turn))
    });
    let (network, wallet, place, turn) = match checked {
        Ok(checked) => checked,
        Err(refused) => return Ok(Err(refused)),
    };
    let witness = Arc::clone(&server.services.witness);
    let (hearing, start) = server
        .blocking(move || {
            let hearing = witness.begin(peer, &start);
            (hearing, start)
        })
        .await?;
    Ok(hearing.and_then(|hearing| {
        let witnessing = Witnessing::begin(network, start, hearing, wall_ms(), Instant::now())?;
        let witness = Arc::clone(&server.services.witness);
        let signed = Signed { witness, tasks: server.tasks.clone(), newest: None };
        Ok(Play { network, wallet, witnessing, hearing, signed, _place: place, _turn: turn })
    }))
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The newest receipt that both have signed. However its play ends, the witness gets it then.
struct Signed {
    witness: Arc<dyn Witness>,
    tasks: TaskTracker,
    newest: Option<Receipt>,
}

impl Drop for Signed {
    fn drop(&mut self) {
        let (Some(receipt), Ok(runtime)) = (self.newest.take(), Handle::try_current()) else { return };
        let witness = Arc::clone(&self.witness);
        // The network's end waits for it.
        self.tasks.spawn_blocking_on(move || witness.done(receipt), &runtime);
    }
}

/// A play that is witnessed.
struct Play {
    network: NetworkId,
    wallet: PublicKey,
    witnessing: Witnessing,
    hearing: Hearing,
    signed: Signed,
    _place: Slot,
    _turn: Slot<PublicKey>,
}

impl Play {
    async fn run(mut self, server: &Server, stream: &mut PeerStream) -> Result<(), Fault> {
        send(server, stream, play_reply::Body::Wallet(self.wallet.0.to_vec())).await?;
        loop {
            let reading = frame::read(stream, limits::PLAY_MESSAGE_BYTES);
            let bytes = match time::timeout(self.hearing.silence(), reading).await {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(FrameError::Ended { started: false, .. })) => return Ok(()),
                Ok(Err(error)) => return Err(error.into()),
                // Whoever fell silent is no offender.
                Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            };
            let answered = match decode(&bytes)?.body {
                Some(play_message::Body::Beat(beat)) => self.beat(beat),
                _ => Err(PlayRefused::new(PlayRefusalCode::Malformed, "not a heartbeat")),
            };
            match answered {
                Ok(signature) => send(server, stream, play_reply::Body::Signature(signature)).await?,
                Err(refused) => return refuse(server, stream, &refused).await,
            }
        }
    }

    /// The signature that answers a heartbeat.
    fn beat(&mut self, beat: PlayBeat) -> Result<Vec<u8>, PlayRefused> {
        let Some(body) = self.witnessing.beat(&beat, Instant::now())? else { return Ok(Vec::new()) };
        let Some(signature) = self.signed.witness.sign(&body.to_sign(&self.network)) else {
            return Err(PlayRefused::new(PlayRefusalCode::Busy, "this peer cannot sign now"));
        };
        self.signed.newest = Some(Receipt::new(body, &beat.signature, &signature));
        Ok(signature.to_vec())
    }
}

/// Reads a reply; a refusal is one of its own kind of error.
fn reply(bytes: &[u8]) -> Result<play_reply::Body, PlayError> {
    let reply: PlayReply = canonical::decode_lenient(REPLY, limits::CONTROL_MESSAGE_BYTES, bytes)
        .map_err(|error| RequestError::Malformed(error.to_string()))?;
    match reply.body {
        None => Err(RequestError::Unsupported("replies that this version knows").into()),
        Some(play_reply::Body::Refused(refused)) => Err(PlayRefused::from_wire(&refused).into()),
        Some(body) => Ok(body),
    }
}

fn wallet(body: play_reply::Body) -> Result<PublicKey, RequestError> {
    let play_reply::Body::Wallet(key) = body else {
        return Err(RequestError::Malformed("a signature instead of a wallet key".to_owned()));
    };
    PublicKey::try_from(&key[..]).map_err(|error| RequestError::Malformed(error.to_string()))
}

async fn ask(
    opener: &Opener,
    peer: PeerId,
    body: play_message::Body,
    timeouts: &Timeouts,
) -> Result<(PeerStream, play_reply::Body), PlayError> {
    let request = frame::encode(&PlayMessage { body: Some(body) });
    let question = Question {
        peer,
        protocol: PLAY,
        request: &request,
        what: REPLY,
        reply_limit: limits::CONTROL_MESSAGE_BYTES,
        timeout: timeouts.request,
    };
    let (stream, bytes) = request::ask(opener, &question).await?;
    Ok((stream, reply(&bytes)?))
}

/// Asks a peer whose wallet it is paid to.
pub(crate) async fn ask_wallet(
    opener: &Opener,
    peer: PeerId,
    network: NetworkId,
    timeouts: &Timeouts,
) -> Result<PublicKey, RequestError> {
    let who = WhoRequest { network: network.0.to_vec() };
    match ask(opener, peer, play_message::Body::Who(who), timeouts).await {
        Ok((_, body)) => wallet(body),
        Err(PlayError::Request(error)) => Err(error),
        Err(PlayError::Refused(PlayRefused { code, detail })) => {
            let code = match code {
                PlayRefusalCode::OtherNetwork => StreamErrorCode::OtherNetwork,
                PlayRefusalCode::Busy => StreamErrorCode::Busy,
                _ => StreamErrorCode::Internal,
            };
            Err(RequestError::Refused { code, detail })
        }
    }
}

/// A play, at its listener's end. Dropping it ends the play, as [`Self::end`] does in order.
#[derive(Debug)]
pub struct PlayStream {
    stream: PeerStream,
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    timeout: Duration,
    write_timeout: Duration,
    /// A heartbeat was not answered: what comes next on the stream may be its answer.
    broken: bool,
}

impl PlayStream {
    /// Begins a play.
    pub(crate) async fn begin(
        opener: &Opener,
        commands: &mpsc::Sender<Command>,
        peer: PeerId,
        start: PlayStart,
        timeouts: &Timeouts,
    ) -> Result<Self, PlayError> {
        let witness = start.witness.clone();
        let begun = ask(opener, peer, play_message::Body::Start(start), timeouts).await;
        let begun = begun.and_then(|(stream, body)| Ok((stream, wallet(body)?)));
        let begun = begun.and_then(|(stream, key)| match key.0[..] == witness {
            true => Ok(stream),
            false => {
                Err(RequestError::Malformed("another wallet key than the one asked for".to_owned()).into())
            }
        });
        if let Err(PlayError::Request(RequestError::Malformed(_))) = &begun {
            report(commands, peer, Offence::Malformed).await;
        }
        let (timeout, write_timeout, commands) = (timeouts.request, timeouts.write, commands.clone());
        Ok(Self { stream: begun?, peer, commands, timeout, write_timeout, broken: false })
    }

    /// Says a heartbeat and gives the witness's signature over its receipt, which is not checked here; empty when the
    /// heartbeat has no receipt. After an error, or when this future was dropped before its end, the play is over.
    ///
    /// # Errors
    /// [`PlayError`].
    pub async fn beat(&mut self, beat: PlayBeat) -> Result<Vec<u8>, PlayError> {
        if std::mem::replace(&mut self.broken, true) {
            let reason = "a heartbeat before it was not answered".to_owned();
            return Err(RequestError::Closed { what: REPLY, reason }.into());
        }
        let answered = time::timeout(self.timeout, self.say(beat)).await;
        let answered = answered
            .unwrap_or_else(|_| Err(RequestError::Timeout { what: REPLY, after: self.timeout }.into()));
        match &answered {
            Ok(_) => self.broken = false,
            Err(PlayError::Request(RequestError::Malformed(_))) => {
                report(&self.commands, self.peer, Offence::Malformed).await;
            }
            Err(_) => {}
        }
        answered
    }

    async fn say(&mut self, beat: PlayBeat) -> Result<Vec<u8>, PlayError> {
        let request = frame::encode(&PlayMessage { body: Some(play_message::Body::Beat(beat)) });
        if request.len() > limits::PLAY_MESSAGE_BYTES {
            return Err(RequestError::Invalid(format!("a heartbeat of {} bytes", request.len())).into());
        }
        request::send(&mut self.stream, &request, REPLY).await.map_err(|(_, error)| error)?;
        let bytes = frame::read(&mut self.stream, limits::CONTROL_MESSAGE_BYTES)
            .await
            .map_err(|error| request::from_frame(error, REPLY))?;
        match reply(&bytes)? {
            play_reply::Body::Signature(signature) if matches!(signature.len(), 0 | 64) => Ok(signature),
            _ => Err(RequestError::Malformed("an answer that is no signature".to_owned()).into()),
        }
    }

    /// Ends the play in order.
    pub async fn end(mut self) {
        let _ = time::timeout(self.write_timeout, self.stream.close()).await;
    }
}
