//! jq's broken-down times, in UTC: `gmtime`, `mktime`, `strftime` and `strptime`.
//!
//! A broken-down time is an array of year, month from 0, day, hour, minute, second, weekday from
//! Sunday and day of the year from 0. Formats are C's, with its English names.

use super::budget::{Flow, fault};
use super::buffer::Buffer;
use super::eval::Evaluation;
use super::functions::number;
use super::number::Num;
use super::text::string;
use super::value::{Arr, SLOT_BYTES, Val};

mod format;
mod parse;

const DAY: i64 = 86_400;
/// No field is further from zero, and no time.
const MAX_FIELD: f64 = 2_147_483_647.0;
const MAX_SECONDS: f64 = 1e15;

/// A broken-down time, its fields within their ranges.
#[derive(Debug, Clone, Copy)]
struct Civil {
    year: i64,
    /// From 0.
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// From Sunday.
    weekday: i64,
    /// From 0.
    yearday: i64,
}

impl Civil {
    /// The time so many seconds after 1970 began.
    fn at(seconds: i64) -> Self {
        let days = seconds.div_euclid(DAY);
        let rest = seconds.rem_euclid(DAY);
        let (year, month, day) = date_of(days);
        let hour = rest / 3600;
        let minute = rest / 60 % 60;
        let second = rest % 60;
        let weekday = (days + 4).rem_euclid(7);
        let yearday = days - days_before(year, 0, 1);
        Self { year, month, day, hour, minute, second, weekday, yearday }
    }

    fn seconds(&self) -> i64 {
        let days = days_before(self.year, self.month, self.day);
        days * DAY + self.hour * 3600 + self.minute * 60 + self.second
    }
}

/// Days from 1970 to a date whose month may be any number, negative ones included.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March end with the day that not each of them has.
    let year = year + month.div_euclid(12);
    let month = month.rem_euclid(12);
    let year = if month < 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 10) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month from 0 and day.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    (year_of_era + era * 400 + i64::from(month < 2), month, day)
}

fn broken_down(run: &mut Evaluation<'_>, civil: &Civil, second: Num) -> Flow<Val> {
    let Civil { year, month, day, hour, minute, weekday, yearday, .. } = *civil;
    run.meter.alloc(8 * SLOT_BYTES)?;
    let int = |n: i64| Val::Num(Num::Int(n));
    let date = [int(year), int(month), int(day)];
    let time = [int(hour), int(minute), Val::Num(second)];
    let items = date.into_iter().chain(time).chain([int(weekday), int(yearday)]).collect();
    Ok(Val::Arr(Arr::of(items).into()))
}

/// Whole seconds since 1970, and the fraction of a second that is left.
#[expect(clippy::cast_possible_truncation, reason = "within MAX_SECONDS")]
fn since_1970(val: &Val) -> Flow<(i64, f64)> {
    let seconds = number(val)?.f64();
    if seconds.is_nan() || seconds.abs() > MAX_SECONDS {
        return fault("the number is not a time that a date can hold");
    }
    Ok((seconds.floor() as i64, seconds - seconds.floor()))
}

/// The time that a number or a broken-down time stands for.
#[expect(clippy::cast_possible_truncation, reason = "within MAX_FIELD")]
fn civil(val: &Val) -> Flow<Civil> {
    let Val::Arr(fields) = val else {
        return since_1970(val).map(|(seconds, _)| Civil::at(seconds));
    };
    let mut given = [0, 0, 1, 0, 0, 0];
    for (field, slot) in fields.items().iter().zip(&mut given) {
        let Val::Num(n) = field else {
            return fault(format!("cannot use {} in a broken-down time", field.type_name()));
        };
        let n = n.f64().trunc();
        if n.is_nan() || n.abs() > MAX_FIELD {
            return fault("the number is not a part of a time that a date can hold");
        }
        *slot = n as i64;
    }
    let [year, month, day, hour, minute, second] = given;
    let given = Civil { year, month, day, hour, minute, second, weekday: 0, yearday: 0 };
    Ok(Civil::at(given.seconds()))
}

pub(super) fn gmtime(run: &mut Evaluation<'_>, val: &Val) -> Flow<Val> {
    let (seconds, rest) = since_1970(val)?;
    let civil = Civil::at(seconds);
    let second = if rest == 0.0 {
        Num::Int(civil.second)
    } else {
        Num::Int(civil.second).add(&Num::of(rest))
    };
    broken_down(run, &civil, second)
}

pub(super) fn mktime(_: &mut Evaluation<'_>, val: &Val) -> Flow<Val> {
    match val {
        Val::Arr(_) => Ok(Val::Num(Num::Int(civil(val)?.seconds()))),
        other => fault(format!("cannot use {} as a broken-down time", other.type_name())),
    }
}

pub(super) fn strftime(run: &mut Evaluation<'_>, val: &Val, format: &Val) -> Flow<Val> {
    let format = string(format)?;
    let civil = civil(val)?;
    let mut out = Buffer::default();
    format::write(run, &civil, format, &mut out)?;
    out.into_text(&mut run.meter).map(Val::Str)
}

pub(super) fn strptime(run: &mut Evaluation<'_>, val: &Val, format: &Val) -> Flow<Val> {
    let text = string(val)?;
    let format = string(format)?;
    run.meter.touch(8 * (text.len() + format.len()))?;
    let Some(civil) = parse::read(text, format) else {
        return fault("cannot parse string as a date of that format");
    };
    broken_down(run, &civil, Num::Int(civil.second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_apart_and_together_again() {
        for days in (-800_000..800_000).step_by(97) {
            let (year, month, day) = date_of(days);
            assert_eq!(days_before(year, month, day), days);
            assert!((0..12).contains(&month) && (1..=31).contains(&day));
        }
        assert_eq!(date_of(0), (1970, 0, 1));
        assert_eq!(date_of(19_782), (2024, 1, 29));
        assert_eq!(days_before(2024, 14, 1), days_before(2025, 2, 1));
        assert_eq!(days_before(2024, -1, 1), days_before(2023, 11, 1));
        let civil = Civil::at(-1);
        assert_eq!((civil.year, civil.yearday, civil.weekday, civil.second), (1969, 364, 3, 59));
    }
}
