//! What ails a Fly of the tests, and what of the real one could not be verified.

use std::time::Duration;

/// What a token gets for an app that is not its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossApp {
    /// 403.
    Forbidden,
    /// 404.
    Absent,
}

/// What stands in `Retry-After` of 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// There is none.
    Absent,
    /// Seconds.
    Seconds(u64),
    /// A date, so many seconds from now.
    Date(u64),
}

/// What ails it. Numbers without a unit are how many of a thousand requests it befalls.
#[derive(Debug, Clone)]
pub struct FlyIlls {
    /// 500, 502 or 503 instead of an answer, nothing done.
    pub server_errors: u64,
    /// 429 though the rate was kept.
    pub limited: u64,
    /// The connection is reset before anything was done.
    pub resets: u64,
    /// It is done, and the connection is reset instead of an answer.
    pub lost_answers: u64,
    /// It is done, and the answer ends in the middle of its body.
    pub cut_bodies: u64,
    /// A machine is made, and the answer is 408.
    pub lost_creates: u64,
    /// A machine is made, and the connection is reset instead of an answer.
    pub broken_creates: u64,
    /// A command has run, and the answer is `null`.
    pub null_execs: bool,
    /// It is done, and the answer is 502 or 503.
    pub late_errors: u64,
    /// So many creates are refused with `MANIFEST_UNKNOWN` first.
    pub unknown_manifests: u32,
    /// Regions in which no host has room.
    pub no_room: &'static [&'static str],
    /// Regions whose hosts are in maintenance.
    pub maintained: &'static [&'static str],
    /// An update finds no image: the machine goes back to the version before.
    pub unpullable: bool,
    /// A refusal is text and no JSON.
    pub text_refusals: bool,
    /// A refusal says what it was sent for a token.
    pub echoes_token: bool,
    /// Labels of machines are not to be written: 403.
    pub refuses_labels: bool,
    /// How long it takes to write one.
    pub labels_take: Duration,
    /// Nobody may ask for what ends so: 403. Not verified: which tokens may ask for the names of secrets.
    pub refused: &'static [&'static str],
    /// Its clock is so far ahead, by the date of its answers.
    pub ahead: Duration,
    /// What a signal kills that nobody sent was killed because the machine had no memory left.
    pub no_memory: bool,
    /// How long a machine that was made is not in lists.
    pub list_delay: Duration,
    /// How long it is not known by its id.
    pub get_delay: Duration,
    /// How long an image is prepared: the machine is `created`.
    pub prepare: Duration,
    /// Between start and started.
    pub boot: Duration,
    /// Pages are shorter than was asked for, some empty.
    pub short_pages: bool,
    /// Whether the rates are kept to.
    pub limits: bool,
    /// Not verified: what is in `Retry-After`.
    pub retry_after: RetryAfter,
    /// Not verified: what a token gets for another app.
    pub cross_app: CrossApp,
    /// Not verified: whether a machine that runs is not started again, with 412; else nothing is done, with 200.
    pub active_refuses: bool,
    /// Not verified: the time of a lease that says none.
    pub lease_ttl: Duration,
    /// Not verified: the longest that an exec may ask for.
    pub longest_exec: Duration,
    /// Not verified: whether a process of exec has the environment of the machine.
    pub exec_has_env: bool,
    /// Not verified: zeros of an exec's answer are left out.
    pub omits_zeros: bool,
    /// Not verified: how long a destroyed machine is known by its id.
    pub remembers: Duration,
    /// Measured by others: a name is given once.
    pub names_are_unique: bool,
    /// Leases are told flat, as Fly's description has them, and not in an envelope, as its documentation has.
    pub flat_leases: bool,
}

impl Default for FlyIlls {
    /// None.
    fn default() -> Self {
        Self {
            server_errors: 0,
            limited: 0,
            resets: 0,
            lost_answers: 0,
            cut_bodies: 0,
            lost_creates: 0,
            broken_creates: 0,
            null_execs: false,
            late_errors: 0,
            unknown_manifests: 0,
            no_room: &[],
            maintained: &[],
            unpullable: false,
            text_refusals: false,
            echoes_token: false,
            refuses_labels: false,
            labels_take: Duration::ZERO,
            refused: &[],
            ahead: Duration::ZERO,
            no_memory: false,
            list_delay: Duration::ZERO,
            get_delay: Duration::ZERO,
            prepare: Duration::from_millis(50),
            boot: Duration::from_millis(50),
            short_pages: false,
            limits: true,
            retry_after: RetryAfter::Absent,
            cross_app: CrossApp::Absent,
            active_refuses: true,
            lease_ttl: Duration::from_secs(30),
            longest_exec: Duration::from_secs(60),
            exec_has_env: true,
            omits_zeros: false,
            remembers: Duration::from_secs(600),
            names_are_unique: true,
            flat_leases: false,
        }
    }
}
