//! `strftime`.

use super::super::budget::Flow;
use super::super::buffer::Buffer;
use super::super::eval::Evaluation;
use super::Civil;

pub(super) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Formats that stand for longer ones.
pub(super) fn expand_conversion(conversion: char) -> Option<&'static str> {
    Some(match conversion {
        'T' | 'X' => "%H:%M:%S",
        'R' => "%H:%M",
        'D' | 'x' => "%m/%d/%y",
        'F' => "%Y-%m-%d",
        'r' => "%I:%M:%S %p",
        'c' => "%a %b %e %H:%M:%S %Y",
        _ => return None,
    })
}

/// Appends a time in the form of `format`; text that is no conversion stays as it is.
pub(super) fn write(
    run: &mut Evaluation<'_>,
    civil: &Civil,
    format: &str,
    out: &mut Buffer,
) -> Flow {
    let mut rest = format;
    while let Some((plain, after)) = rest.split_once('%') {
        out.push(&mut run.meter, plain)?;
        run.meter.spend(1)?;
        let mut chars = after.chars();
        let conversion = chars.next().unwrap_or('%');
        match expand_conversion(conversion) {
            Some(longer) => write(run, civil, longer, out)?,
            None => out.push(&mut run.meter, &format_conversion(civil, conversion))?,
        }
        rest = chars.as_str();
    }
    out.push(&mut run.meter, rest)
}

fn format_conversion(civil: &Civil, conversion: char) -> String {
    let name = |names: &[&str], at: i64| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or("?").to_owned()
    };
    let short = |name: String| name[..name.len().min(3)].to_owned();
    let hour_of_12 = (civil.hour + 11) % 12 + 1;
    match conversion {
        'Y' => civil.year.to_string(),
        'C' => format!("{:02}", civil.year.div_euclid(100)),
        'y' => format!("{:02}", civil.year.rem_euclid(100)),
        'm' => format!("{:02}", civil.month + 1),
        'd' => format!("{:02}", civil.day),
        'e' => format!("{:2}", civil.day),
        'H' => format!("{:02}", civil.hour),
        'k' => format!("{:2}", civil.hour),
        'I' => format!("{hour_of_12:02}"),
        'l' => format!("{hour_of_12:2}"),
        'M' => format!("{:02}", civil.minute),
        'S' => format!("{:02}", civil.second),
        'j' => format!("{:03}", civil.yearday + 1),
        'p' => if civil.hour < 12 { "AM" } else { "PM" }.to_owned(),
        'A' => name(&DAYS, civil.weekday),
        'a' => short(name(&DAYS, civil.weekday)),
        'B' => name(&MONTHS, civil.month),
        'b' | 'h' => short(name(&MONTHS, civil.month)),
        'u' => ((civil.weekday + 6) % 7 + 1).to_string(),
        'w' => civil.weekday.to_string(),
        'U' => format!("{:02}", (civil.yearday + 7 - civil.weekday) / 7),
        'W' => format!("{:02}", (civil.yearday + 7 - (civil.weekday + 6) % 7) / 7),
        's' => civil.seconds().to_string(),
        'Z' => "UTC".to_owned(),
        'z' => "+0000".to_owned(),
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        '%' => "%".to_owned(),
        other => format!("%{other}"),
    }
}
