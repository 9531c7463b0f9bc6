//! Owns the proof that what is kept is read as people write it.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Policy, String> {
    Policy::parse(text, |age| humantime::parse_duration(age.trim()).map_err(|e| e.to_string()))
}

#[test]
fn what_is_kept_is_written_as_people_do() {
    for (text, shown) in [
        ("30d", "30d"),
        ("36h", "1d 12h"),
        ("0s", "0"),
        ("off", "0"),
        ("1h: all, 1d: hourly, 30d: daily", "1h: all, 1d: hourly, 30d: daily"),
        ("1h:ALL,1year:Monthly", "1h: all, 365d 6h: monthly"),
        ("2days : weekly", "2d: weekly"),
        ("1d: all, 2d: all", "2d"),
        ("1500ms", "1s 500ms"),
    ] {
        assert_eq!(read(text).map(|policy| policy.to_string()).as_deref(), Ok(shown), "{text}");
    }
    let policy = read("1h: all, 30d: daily").expect("usable");
    assert_eq!((policy.is_off(), policy.horizon()), (false, Duration::from_secs(30 * DAY)));
    assert!(Policy::default().is_off() && Policy::default().horizon().is_zero());
}

#[test]
fn periods_begin_where_people_say() {
    let local = |text: &str| text.parse::<jiff::civil::DateTime>().expect("a time").to_zoned(jiff::tz::TimeZone::UTC);
    let of = |share: Share, text: &str| share.period(local(text).expect("utc").timestamp().as_second());
    let month = |text| of(Share::Monthly, text);
    assert_eq!(month("2026-03-01T00:00") - month("2026-02-28T23:59"), 1);
    assert_eq!(month("2025-01-01T00:00") - month("2024-01-31T00:00"), 12);
    assert_eq!(month("2024-02-29T12:00"), month("2024-02-01T00:00"));
    let week = |text| of(Share::Weekly, text);
    assert!(
        week("2026-11-16T00:00") == week("2026-11-22T23:59") && week("2026-11-23T00:00") > week("2026-11-22T23:59")
    );
    assert!(week("2026-11-30T23:59") < week("2026-12-01T00:00"), "a month ends a week");
    assert_eq!(week("2026-12-01T00:00"), week("2026-12-06T23:59"));
    assert!(of(Share::Daily, "1969-12-31T23:00") < of(Share::Daily, "1970-01-01T00:00"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_reason() {
    for (text, reason) in [
        ("soon", "write it as 30d or '1h: all"),
        ("1h: all, 1d", "\"1d\" does not say what is kept"),
        ("1h: most", "\"most\" is none of all, hourly, daily, weekly, monthly"),
        ("1h: all,", "\"\" does not say"),
        (": all", "\": all\": "),
        ("1d: all, 1h: hourly", "the ages must rise: 1h comes after 1d"),
        ("1d: all, 24h: daily", "the ages must rise: 1d comes after 1d"),
        ("1d: daily, 2d: all", "\"all\" comes after \"daily\""),
        ("0s: all, 1d: daily", "must be longer than zero, as in \"1d: all\""),
    ] {
        let said = read(text).expect_err(text);
        assert!(said.contains(reason), "{text}: {said}");
    }
}

#[test]
fn sizes_are_read_as_people_write_them() {
    for (text, bytes) in [
        ("4096", 4096),
        ("10GB", 10_000_000_000),
        ("500 MiB", 500 << 20),
        ("1.5g", 3 << 29),
        ("2k", 2048),
        ("1kb", 1000),
        ("0", 0),
        ("7 B", 7),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in ["", "GB", "-1", "1.2.3", "10 parsecs", "10GBs", "99999999999TB", "1e3", "."] {
        assert!(parse_size(text).is_err(), "{text}");
    }
    assert_eq!(["10GB", "512MiB", "4096", "1001"].map(|text| parse_size(text).map(size)), {
        ["10GB", "512MiB", "4KiB", "1001"].map(|text| Ok(text.to_string()))
    });
}

proptest! {
    #[test]
    fn what_is_shown_is_read_again(stages in prop::collection::vec((1u64..5_000_000_000_000_000_000, 0usize..5), 0..5)) {
        let stages: Vec<Stage> = stages.into_iter().map(|(nanos, share)| {
            Stage { until: Duration::from_nanos(nanos), share: SHARES[share].0 }
        }).collect();
        if let Ok(policy) = Policy::new(stages) {
            prop_assert_eq!(read(&policy.to_string()).or_else(|e| if policy.is_off() { Ok(Policy::default()) } else { Err(e) }), Ok(policy));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), near in "[0-9.]{0,25} ?[kKmMgGtTiB]{0,4}") {
        let _ = (read(&text), parse_size(&text));
        if let Ok(bytes) = parse_size(&near) {
            prop_assert_eq!(parse_size(&size(bytes)), Ok(bytes));
        }
    }
}
