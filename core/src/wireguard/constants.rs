//! WireGuard's constants under the paper's names (section 6.1), and those that only implementations name.

use core::time::Duration;

/// Either side asks for a new session after so many messages sent in this one.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// No message with this counter or a greater one is sent or accepted.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age of a session at which its initiator asks for a new one when it sends.
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age of a session from which on nothing is sent or accepted in it.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Age of a session at which its initiator asks for a new one when it receives: early enough that the new one is
/// there before [`REJECT_AFTER_TIME`] (paper section 6.2).
pub const REKEY_AFTER_TIME_RECEIVING: Duration =
    REJECT_AFTER_TIME.saturating_sub(KEEPALIVE_TIMEOUT).saturating_sub(REKEY_TIMEOUT);
/// All key material of a peer is wiped when no session was derived for so long.
pub const ZERO_KEY_MATERIAL_AFTER: Duration = REJECT_AFTER_TIME.saturating_mul(3);
/// An initiation without answer is sent again after this time and a jitter of up to [`MAX_TIMER_JITTER`]. Also the
/// least time between two initiations to one peer.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// The initiator gives up after trying for so long.
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// An authenticated packet without an answer of our own for so long is answered by an empty one.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Data sent and nothing heard for so long, plus jitter: a new handshake is tried.
pub const NEW_HANDSHAKE_AFTER: Duration = KEEPALIVE_TIMEOUT.saturating_add(REKEY_TIMEOUT);
/// The greatest random delay that is added to the timers of handshakes.
pub const MAX_TIMER_JITTER: Duration = Duration::from_millis(333);

/// Life of the secret that cookies are made from.
pub const COOKIE_SECRET_TIME: Duration = Duration::from_secs(120);
/// How long a peer uses a cookie that it was sent: what [`COOKIE_SECRET_TIME`] leaves after a margin for latency.
pub const COOKIE_USE_TIME: Duration = Duration::from_secs(115);
/// An initiation that follows the last consumed one of the same peer sooner than this is dropped.
pub const INITIATION_INTERVAL: Duration = Duration::from_millis(20);
/// Handshake messages a second from one source while under load.
pub const RATE_LIMIT_PER_SECOND: u32 = 20;
/// Handshake messages that one source may send at once while under load.
pub const RATE_LIMIT_BURST: u32 = 5;
/// How long a device counts as loaded after the last sign of it.
pub const UNDER_LOAD_TIME: Duration = Duration::from_secs(1);

/// Inner packets are padded to a multiple of so many bytes.
pub const PADDING: usize = 16;
/// DSCP and ECN of handshake messages: AF41, not ECN-capable.
pub const HANDSHAKE_TRAFFIC_CLASS: u8 = 0x88;
