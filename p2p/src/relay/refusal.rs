//! Why something is not relayed.

use super::wire::Status;

/// Each has its own number in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum Refusal {
    #[error("too many requests at once")]
    Handshakes,
    #[error("asked over a relayed connection")]
    Relayed,
    #[error("no address of this relay is known to be reachable")]
    NoAddress,
    #[error("too many requests for reservations")]
    TooOften,
    #[error("all reservations are taken")]
    Reservations,
    #[error("all reservations of the address are taken")]
    ReservationsOfAddress,
    #[error("a peer cannot be connected with itself")]
    Oneself,
    #[error("the destination has no reservation")]
    NoReservation,
    #[error("all circuits are taken")]
    Circuits,
    #[error("all circuits of the address are taken")]
    CircuitsOfAddress,
    #[error("all circuits of the source are taken")]
    CircuitsOfSource,
    #[error("all circuits of the destination are taken")]
    CircuitsOfDestination,
    #[error("a peer's bytes for this day are used up")]
    Day,
    #[error("the relay's bytes for this month are used up")]
    Month,
    #[error("the destination does not answer")]
    Unreachable,
    #[error("the destination declines")]
    Declined,
    #[error("a message that cannot be read")]
    Malformed,
    #[error("a message that has no place here")]
    Unexpected,
}

impl Refusal {
    /// What the asking peer is told.
    pub(super) fn status(self) -> Status {
        match self {
            Self::Relayed | Self::Oneself => Status::PermissionDenied,
            Self::NoAddress | Self::TooOften => Status::ReservationRefused,
            Self::Handshakes
            | Self::Reservations
            | Self::ReservationsOfAddress
            | Self::Circuits
            | Self::CircuitsOfAddress
            | Self::CircuitsOfSource
            | Self::CircuitsOfDestination
            | Self::Day
            | Self::Month => Status::ResourceLimitExceeded,
            Self::NoReservation => Status::NoReservation,
            Self::Unreachable | Self::Declined => Status::ConnectionFailed,
            Self::Malformed => Status::MalformedMessage,
            Self::Unexpected => Status::UnexpectedMessage,
        }
    }

    /// Name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Handshakes => "handshakes",
            Self::Relayed => "relayed",
            Self::NoAddress => "no_address",
            Self::TooOften => "too_often",
            Self::Reservations => "reservations",
            Self::ReservationsOfAddress => "reservations_of_address",
            Self::Oneself => "oneself",
            Self::NoReservation => "no_reservation",
            Self::Circuits => "circuits",
            Self::CircuitsOfAddress => "circuits_of_address",
            Self::CircuitsOfSource => "circuits_of_source",
            Self::CircuitsOfDestination => "circuits_of_destination",
            Self::Day => "day",
            Self::Month => "month",
            Self::Unreachable => "unreachable",
            Self::Declined => "declined",
            Self::Malformed => "malformed",
            Self::Unexpected => "unexpected",
        }
    }
}
