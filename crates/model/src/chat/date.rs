//! The day that templates write.

/// A day, for templates that write today's date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// Year.
    pub year: u32,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
}

impl Default for Date {
    /// The day that Llama 3's template falls back to: the same inputs must give the same text whenever they are read.
    fn default() -> Self {
        Self {
            year: 2024,
            month: 7,
            day: 26,
        }
    }
}

const MONTHS: [&str; 12] = [
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
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl Date {
    /// The day at noon as Python's `strftime` writes it; codes it does not know stay.
    pub(super) fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = rest.next();
            // %-d is %d without its leading zero.
            let bare = code == Some('-');
            if bare {
                code = rest.next();
            }
            let written = code.map_or_else(|| "%".into(), |code| self.code(code));
            out.push_str(if bare {
                written.trim_start_matches('0')
            } else {
                &written
            });
        }
        out
    }

    fn code(self, code: char) -> String {
        let month = MONTHS[(self.month.clamp(1, 12) - 1) as usize];
        let weekday = WEEKDAYS[self.weekday()];
        match code {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year % 100),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'B' => month.into(),
            'b' => month[..3].into(),
            'A' => weekday.into(),
            'a' => weekday[..3].into(),
            'F' => self.format("%Y-%m-%d"),
            'H' | 'I' => "12".into(),
            'M' | 'S' => "00".into(),
            'p' => "PM".into(),
            '%' => "%".into(),
            other => format!("%{other}"),
        }
    }

    /// Days since Sunday (Sakamoto's table).
    fn weekday(self) -> usize {
        const SHIFT: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 {
            self.year - 1
        } else {
            self.year
        };
        let shift = SHIFT[(self.month.clamp(1, 12) - 1) as usize];
        ((year + year / 4 - year / 100 + year / 400 + shift + self.day) % 7) as usize
    }
}
