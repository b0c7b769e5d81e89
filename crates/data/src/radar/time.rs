//! Times of frames: seconds since 1970-01-01 00:00 UTC, read from text and from file names.

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// `YYYYMMDDhhmm` or `YYYYMMDDhhmmss`, with or without `-`, `:`, `/`, `T`, `Z` and spaces, as seconds since 1970-01-01 00:00.
/// Fractions of a second, as in `00:05:00.000Z`, must be 0.
pub fn parse_time(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((whole, fraction)) if fraction.trim_end_matches('Z').chars().all(|c| c == '0') => {
            whole
        }
        _ => text,
    };
    let mut digits = Vec::with_capacity(14);
    for c in text.chars() {
        match c.to_digit(10) {
            Some(digit) => digits.push(digit as u8),
            None if "-:/TZ ".contains(c) => {}
            None => return None,
        }
    }
    matches!(digits.len(), 12 | 14)
        .then(|| time_of_digits(&digits))
        .flatten()
}

/// The time that a file's name tells, such as `metoffice-c-band-rain-radar_uk_201603260005_1km-composite.dat.gz`,
/// `rain_2016-03-26T00-05.tif` or, to the day, `…_uk_20160326_1km-composite.dat.gz.tar`; and how many seconds the name leaves
/// open: 1, 60 or 86 400.
pub fn time_in_name(name: &str) -> Option<(i64, i64)> {
    let bytes = name.as_bytes();
    let starts = (0..bytes.len())
        .filter(|&i| bytes[i].is_ascii_digit() && (i == 0 || !bytes[i - 1].is_ascii_digit()));
    for start in starts {
        let mut digits = Vec::with_capacity(14);
        // Digits, and where the name could end a time after 8, 12 or 14 of them.
        let mut best = None;
        let mut at = start;
        while at < bytes.len() && digits.len() < 14 {
            let separators: &[u8] = match digits.len() {
                4 | 6 => b"-",
                8 => b"-_T",
                10 | 12 => b":-",
                _ => b"",
            };
            if bytes[at].is_ascii_digit() {
                digits.push(bytes[at] - b'0');
            } else if !(separators.contains(&bytes[at])
                && bytes.get(at + 1).is_some_and(u8::is_ascii_digit))
            {
                break;
            }
            at += 1;
            if matches!(digits.len(), 8 | 12 | 14) && !bytes.get(at).is_some_and(u8::is_ascii_digit)
            {
                let open = [DAY_S, 60, 1][(digits.len() - 8) / 3];
                best = time_of_digits(&digits).map(|time| (time, open)).or(best);
            }
        }
        if best.is_some() {
            return best;
        }
    }
    None
}

/// `2016-03-26T00:05:00Z`.
pub fn format_time(time_s: i64) -> String {
    let (days, second) = (time_s.div_euclid(DAY_S), time_s.rem_euclid(DAY_S));
    let (year, month, day) = date_of_days(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `201603260005`, with seconds where there are any: the form of timestamp files and file names.
pub fn compact_time(time_s: i64) -> String {
    let digits: String = format_time(time_s)
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    match digits.strip_suffix("00") {
        Some(minutes) => minutes.to_owned(),
        None => digits,
    }
}

/// Year, month, day, hour, minute and second as seconds since 1970; `None` where there is no such time.
pub fn time_of([year, month, day, hour, minute, second]: [i64; 6]) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(0..=9999).contains(&year)
        || !(1..=days_in_month).contains(&day)
        || !(0..24).contains(&hour)
        || !(0..60).contains(&minute)
        || !(0..60).contains(&second)
    {
        return None;
    }
    // Days of the proleptic Gregorian calendar, the year counted from March so that the leap day comes last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 1
            - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Year, month, day, hour, minute and second of a time.
pub fn parts_of(time_s: i64) -> [i64; 6] {
    let (year, month, day) = date_of_days(time_s.div_euclid(DAY_S));
    let second = time_s.rem_euclid(DAY_S);
    [
        year,
        month,
        day,
        second / 3600,
        second / 60 % 60,
        second % 60,
    ]
}

/// 8, 12 or 14 digits of a year after 1899.
fn time_of_digits(digits: &[u8]) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = digits.get(from..to).unwrap_or_default();
        digits.iter().fold(0, |n, &d| 10 * n + i64::from(d))
    };
    (number(0, 4) >= 1900)
        .then(|| {
            time_of([
                number(0, 4),
                number(4, 6),
                number(6, 8),
                number(8, 10),
                number(10, 12),
                number(12, 14),
            ])
        })
        .flatten()
}

/// The date so many days after 1970-01-01; the inverse of what [`time_of`] does.
fn date_of_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // `date -u -d … +%s`
        assert_eq!(parse_time("197001010000"), Some(0));
        assert_eq!(parse_time("2010-08-26 07:35:00Z"), Some(1_282_808_100));
        assert_eq!(parse_time("2010-08-26T07:35:00.000Z"), Some(1_282_808_100));
        assert_eq!(parse_time("2010-08-26T07:35:00.250Z"), None);
        assert_eq!(parse_time("200002291200"), Some(951_825_600));
        assert_eq!(parse_time("190002290000"), None);
        assert_eq!(format_time(1_282_808_100), "2010-08-26T07:35:00Z");
        assert_eq!(compact_time(1_282_808_100), "201008260735");
        assert_eq!(compact_time(1_282_808_101), "20100826073501");
        // Every day of 800 years there and back.
        for day in -146_097..146_097 {
            let time = day * DAY_S + 12_345;
            assert_eq!(time_of(parts_of(time)), Some(time));
        }
    }

    #[test]
    fn times_in_file_names() {
        let midnight = 1_458_950_400; // date -u -d 2016-03-26 +%s
        let cases = [
            (
                "metoffice-c-band-rain-radar_uk_201603260005_1km-composite.dat.gz",
                (midnight + 300, 60),
            ),
            (
                "metoffice-c-band-rain-radar_uk_20160326_1km-composite.dat.gz.tar",
                (midnight, DAY_S),
            ),
            (
                "201603260005_nimrod_ng_radar_rainrate_composite_1km_merged_UK_zip",
                (midnight + 300, 60),
            ),
            ("rain_2016-03-26T00-05.tif", (midnight + 300, 60)),
            ("20160326_000507.tif", (midnight + 307, 1)),
            ("20160326T000507Z.asc", (midnight + 307, 1)),
            ("5min_20160326_1km.tif", (midnight, DAY_S)),
            (
                "RAD_NL25_RAC_5min_201603260005_NL.tif",
                (midnight + 300, 60),
            ),
        ];
        for (name, expected) in cases {
            assert_eq!(time_in_name(name), Some(expected), "{name}");
        }
        for name in [
            "u1096_ng_ek00_precip_2km",
            "20161326.tif",
            "2016.tif",
            "123456789012345.tif",
        ] {
            assert_eq!(time_in_name(name), None, "{name}");
        }
    }
}
