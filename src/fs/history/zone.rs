//! Owns local time where no file can be opened any more: the zone is read once, before the walls are up.

use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::tree::entry::Time;

static ZONE: OnceLock<TimeZone> = OnceLock::new();

/// The zone of the system, as it was when it was first asked for: to be called while files can still be opened.
pub fn local_zone() -> &'static TimeZone {
    ZONE.get_or_init(TimeZone::system)
}

/// A time as the names of what is kept say it: local time, to the microsecond, in characters that every filesystem takes.
pub fn shown(time: Time) -> String {
    let nsec = i32::try_from(time.nsec).unwrap_or(0);
    let time = Timestamp::new(time.sec, nsec).unwrap_or_default();
    time.to_zoned(local_zone().clone()).strftime("%Y-%m-%d_%H-%M-%S.%6f").to_string()
}

/// A time for a person: local time, with as much of a second as there is.
pub fn shown_time(time: Time) -> String {
    let moment = Timestamp::new(time.sec, i32::try_from(time.nsec).unwrap_or(0)).unwrap_or_default();
    let text = moment.to_zoned(local_zone().clone()).strftime("%Y-%m-%d %H:%M:%S%.f").to_string();
    text.trim_end_matches('.').to_string()
}
