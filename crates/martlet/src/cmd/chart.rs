//! A line chart for terminals made of Braille patterns: two by four dots per character.

/// Character without dots.
const BLANK: u32 = 0x2800;
/// Dots of a character by column and row, as bits of the pattern.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
/// Length of a label in characters.
const LABEL: usize = 10;
/// Smallest width and height of the drawing in characters.
const WIDTH_MIN: usize = 10;
const HEIGHT_MIN: usize = 2;

/// Draws a chart of points, each a time and a number, in order of time. `size` is its width and
/// height in characters, including labels. `ends` are the labels of the first and last time. Empty
/// if there are no points.
pub(crate) fn chart(points: &[(f64, f64)], size: (usize, usize), ends: (&str, &str)) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return String::new();
    };
    let width = size.0.saturating_sub(LABEL + 3).max(WIDTH_MIN);
    let height = size.1.saturating_sub(2).max(HEIGHT_MIN);
    let numbers = points.iter().map(|point| point.1);
    let least = numbers.clone().fold(f64::INFINITY, f64::min);
    let most = numbers.fold(f64::NEG_INFINITY, f64::max);
    let mut canvas = Canvas::new(width, height);
    let across = share(first.0, last.0);
    let up = share(least, most);
    let place = |point: &(f64, f64)| canvas_place(across(point.0), up(point.1), width, height);
    let mut before = None;
    for point in points {
        let here = place(point);
        canvas.line(before.unwrap_or(here), here);
        before = Some(here);
    }
    let mut text = String::new();
    for (row, line) in canvas.lines().enumerate() {
        let label = match row {
            0 => number(most),
            row if row + 1 == height => number(least),
            _ => String::new(),
        };
        text.push_str(&format!(
            "{label:>LABEL$} ┤{}\n",
            line.trim_end_matches('\u{2800}')
        ));
    }
    text.push_str(&format!("{:>LABEL$} └{}\n", "", "─".repeat(width)));
    let gap = width
        .saturating_sub(ends.0.chars().count() + ends.1.chars().count())
        .max(1);
    text.push_str(&format!(
        "{:>LABEL$}  {}{}{}\n",
        "",
        ends.0,
        " ".repeat(gap),
        ends.1
    ));
    text
}

/// Position of a number between two others, from 0 to 1; 0.5 if these are equal.
fn share(least: f64, most: f64) -> impl Fn(f64) -> f64 {
    move |number| match most > least {
        true => (number - least) / (most - least),
        false => 0.5,
    }
}

/// Converts a position, from 0 to 1 to the right and upwards, to a dot.
fn canvas_place(x: f64, y: f64, width: usize, height: usize) -> (i64, i64) {
    let (columns, rows) = ((2 * width - 1) as f64, (4 * height - 1) as f64);
    (
        (x * columns).round() as i64,
        ((1.0 - y) * rows).round() as i64,
    )
}

/// Formats a number with few characters.
fn number(number: f64) -> String {
    let size = number.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e7).contains(&size) => format!("{number:.2e}"),
        _ if size >= 1e4 || number.fract() == 0.0 => format!("{number:.0}"),
        _ => {
            let text = format!("{number:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

struct Canvas {
    width: usize,
    cells: Vec<u32>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            cells: vec![BLANK; width * height],
        }
    }

    fn dot(&mut self, x: i64, y: i64) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        let place = y / 4 * self.width + x / 2;
        if let Some(cell) = self.cells.get_mut(place).filter(|_| x / 2 < self.width) {
            *cell |= DOTS[x % 2][y % 4];
        }
    }

    /// Draws the dots between two dots, both included.
    fn line(&mut self, from: (i64, i64), to: (i64, i64)) {
        let (across, down) = (to.0 - from.0, to.1 - from.1);
        let steps = across.abs().max(down.abs()).max(1);
        for step in 0..=steps {
            self.dot(from.0 + across * step / steps, from.1 + down * step / steps);
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let rows = self.cells.chunks(self.width);
        rows.map(|row| {
            row.iter()
                .filter_map(|cell| char::from_u32(*cell))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let points: Vec<(f64, f64)> = (0..100).map(|n| (f64::from(n), f64::from(n))).collect();
        let text = chart(&points, (33, 6), ("00:00", "01:00"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert!(lines[0].starts_with("        99 ┤"), "{text}");
        assert!(lines[3].starts_with("         0 ┤"), "{text}");
        let blanks = |line: &str| line.chars().filter(|c| *c == '\u{2800}').count();
        assert!(blanks(lines[0]) > blanks(lines[3]), "{text}");
        assert!(lines[5].trim_start().starts_with("00:00") && lines[5].ends_with("01:00"));
    }

    #[test]
    fn few_points_and_small_terminals_are_drawn_too() {
        assert_eq!(chart(&[], (80, 20), ("", "")), "");
        assert!(chart(&[(0.0, 5.0)], (0, 0), ("a", "b")).contains("5 ┤"));
        let flat = chart(&[(0.0, 5.0), (1.0, 5.0)], (40, 8), ("a", "b"));
        assert!(
            flat.chars()
                .any(|c| (0x2801..=0x28ff).contains(&(c as u32))),
            "{flat}"
        );
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (21.5, "21.5"),
            (1.0 / 3.0, "0.333"),
            (-12_345.6, "-12346"),
            (1e12, "1.00e12"),
            (0.000_012, "1.20e-5"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
