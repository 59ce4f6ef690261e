//! `strptime`.

use super::format::{DAYS, MONTHS, expand_conversion};
use super::{Civil, DAY, days_before};

/// A text of which the beginning is read.
struct TimeReader<'t> {
    rest: &'t str,
    civil: Civil,
    /// Of 12 hours, the second half.
    afternoon: Option<bool>,
    /// The day of the year, where there is no month.
    yearday: Option<i64>,
    seconds: Option<i64>,
}

/// The time that `text` as a whole gives in a format; `None` where it does not match.
pub(super) fn read(text: &str, format: &str) -> Option<Civil> {
    let civil = Civil {
        year: 1900,
        month: 0,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
        weekday: 0,
        yearday: 0,
    };
    let mut reader =
        TimeReader { rest: text, civil, afternoon: None, yearday: None, seconds: None };
    reader.read_format(format)?;
    reader.rest.is_empty().then(|| reader.time())
}

impl TimeReader<'_> {
    fn time(mut self) -> Civil {
        if let Some(seconds) = self.seconds {
            return Civil::at(seconds);
        }
        if let Some(afternoon) = self.afternoon {
            self.civil.hour = self.civil.hour % 12 + if afternoon { 12 } else { 0 };
        }
        if let Some(yearday) = self.yearday {
            let days = days_before(self.civil.year, 0, 1) + yearday;
            let date = Civil::at(days * DAY);
            self.civil.month = date.month;
            self.civil.day = date.day;
        }
        Civil::at(self.civil.seconds())
    }

    fn read_format(&mut self, format: &str) -> Option<()> {
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c.is_whitespace() {
                self.rest = self.rest.trim_start();
            } else if c == '%' {
                self.read_conversion(chars.next()?)?;
            } else {
                self.rest = self.rest.strip_prefix(c)?;
            }
        }
        Some(())
    }

    fn read_conversion(&mut self, conversion: char) -> Option<()> {
        if let Some(longer) = expand_conversion(conversion) {
            return self.read_format(longer);
        }
        match conversion {
            'Y' => self.civil.year = self.number(4, 0, 9999)?,
            'y' => {
                let year = self.number(2, 0, 99)?;
                self.civil.year = if year < 69 { 2000 + year } else { 1900 + year };
            }
            'm' => self.civil.month = self.number(2, 1, 12)? - 1,
            'd' | 'e' => self.civil.day = self.number(2, 1, 31)?,
            'H' | 'k' => self.civil.hour = self.number(2, 0, 23)?,
            'I' | 'l' => self.civil.hour = self.number(2, 1, 12)?,
            'M' => self.civil.minute = self.number(2, 0, 59)?,
            'S' => self.civil.second = self.number(2, 0, 60)?,
            'j' => self.yearday = Some(self.number(3, 1, 366)? - 1),
            's' => self.seconds = Some(self.number(15, 0, i64::MAX)?),
            'p' => self.afternoon = Some(self.name(&["AM", "PM"])? == 1),
            'A' | 'a' => drop(self.name(&DAYS)?),
            'B' | 'b' | 'h' => self.civil.month = self.name(&MONTHS)?,
            'Z' => self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
            'z' => self.zone()?,
            'n' | 't' => self.rest = self.rest.trim_start(),
            other => self.rest = self.rest.strip_prefix(other)?,
        }
        Some(())
    }

    /// A number of at most so many digits, within its range.
    fn number(&mut self, digits: usize, least: i64, most: i64) -> Option<i64> {
        let rest = self.rest.trim_start();
        let len = rest.bytes().take(digits).take_while(u8::is_ascii_digit).count();
        let number = rest[..len].parse().ok().filter(|number| (least..=most).contains(number))?;
        self.rest = &rest[len..];
        Some(number)
    }

    /// Which of some names comes next, whole or its first three letters.
    fn name(&mut self, names: &[&str]) -> Option<i64> {
        let is_next = |name: &str| {
            self.rest.get(..name.len()).is_some_and(|next| next.eq_ignore_ascii_case(name))
        };
        for (at, name) in (0..).zip(names) {
            for name in [name, &name[..name.len().min(3)]] {
                if is_next(name) {
                    self.rest = &self.rest[name.len()..];
                    return Some(at);
                }
            }
        }
        None
    }

    /// An offset, which as in C is read and left alone.
    fn zone(&mut self) -> Option<()> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Some(());
        }
        self.rest = self.rest.strip_prefix(['+', '-'])?;
        self.number(2, 0, 14)?;
        self.rest = self.rest.strip_prefix(':').unwrap_or(self.rest);
        self.number(2, 0, 59)?;
        Some(())
    }
}
