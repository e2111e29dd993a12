//! One frame of `autoreply top`, drawn from what was seen. Colour only underlines what the words say.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};

use super::meter::Rates;
use crate::roles::paint::Paint;
use crate::roles::status::tell::{person, span, verdict};
use crate::roles::status::view::Status;

/// What a frame shows.
pub struct Picture<'a> {
    /// How everything stands.
    pub status: &'a Status,
    /// What happens in a second.
    pub rates: &'a Rates,
    /// Records that waited at the last looks, the oldest first.
    pub waiting: &'a [u64],
    /// What the last line says.
    pub footer: &'a str,
    /// Whether there is colour.
    pub paint: Paint,
}

impl Picture<'_> {
    fn good(&self) -> Style {
        self.style(Color::Green)
    }

    fn bad(&self) -> Style {
        self.style(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn style(&self, colour: Color) -> Style {
        if self.paint.is_on() { Style::new().fg(colour) } else { Style::new() }
    }

    /// Draws everything.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let hurts = self.hurts(frame.area().width);
        let top = hurts.len() as u16;
        let lag = self.status.lag.len().max(1) as u16 + 4;
        let [verdict, rates, middle, waiting, desks, footer] = Layout::vertical([
            Constraint::Length(top),
            Constraint::Length(4),
            Constraint::Min(6),
            Constraint::Length(lag),
            Constraint::Min(5),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(hurts), verdict);
        frame.render_widget(self.rates(), rates);
        let [workers, replies] = Layout::horizontal([Constraint::Min(50), Constraint::Length(36)]).areas(middle);
        frame.render_widget(self.workers(), workers);
        frame.render_widget(self.replies(), replies);
        self.draw_waiting(frame, waiting);
        frame.render_widget(self.desks(), desks);
        frame.render_widget(Paragraph::new(self.footer), footer);
    }

    /// The verdict, what to do about the worst, and what waits for a person.
    fn hurts(&self, width: u16) -> Vec<Line<'_>> {
        let style = if self.status.well { self.good() } else { self.bad() };
        let at = format!("{:.0}", self.status.at);
        let verdict = verdict(self.status);
        let room = usize::from(width).saturating_sub(at.len() + 1);
        let mut lines = if verdict.chars().count() <= room {
            vec![Line::styled(format!("{verdict:<room$} {at}"), style)]
        } else {
            vec![Line::styled(verdict, style)]
        };
        if let Some(first) = self.status.hurts.first() {
            lines.push(Line::raw(format!("-> {}.", first.remedy)));
        }
        let person = person(self.status);
        if !person.is_empty() {
            lines.push(Line::raw(person.trim_end().to_owned()));
        }
        lines
    }

    fn rates(&self) -> Paragraph<'_> {
        let fresh = self.status.workers.iter().filter(|worker| worker.is_fresh());
        let (flying, permits) = fresh.fold((0, 0), |sum, worker| (sum.0 + worker.in_flight, sum.1 + worker.permits));
        let quota = self
            .status
            .quota
            .map_or_else(String::new, |quota| format!("   quota {} of {} today", quota.taken, quota.limit));
        let turns = format!("turns {:.1}   in flight {flying} of {permits}{quota}", self.rates.turns);
        let replies: Vec<_> = self.rates.replies.iter().map(|(effect, rate)| format!("{effect} {rate:.1}")).collect();
        let replies = if replies.is_empty() { "none heard yet".to_owned() } else { replies.join("   ") };
        Paragraph::new(vec![Line::raw(turns), Line::raw(format!("replies: {replies}"))])
            .block(Block::bordered().title("In a second"))
    }

    fn workers(&self) -> Table<'_> {
        let row = |worker: &crate::roles::status::view::WorkerView| {
            let style = if worker.is_fresh() { Style::new() } else { self.bad() };
            Row::new([
                worker.name.clone(),
                worker.version.clone(),
                worker.state.to_owned(),
                span(worker.silent_seconds),
                worker.in_flight.to_string(),
                worker.partitions.to_string(),
            ])
            .style(style)
        };
        let rows: Vec<_> = self.status.workers.iter().map(row).collect();
        let title = format!("Workers ({})", self.status.workers.len());
        let head = ["NAME", "VERSION", "STATE", "HEARD", "IN FLIGHT", "PARTITIONS"];
        let widths = [
            Constraint::Min(12),
            Constraint::Length(8),
            Constraint::Length(6),
            Constraint::Length(7),
            Constraint::Length(9),
            Constraint::Length(10),
        ];
        Table::new(rows, widths).header(heading(head)).block(Block::bordered().title(title))
    }

    fn replies(&self) -> Table<'_> {
        let replies = self.status.replies.as_ref();
        let mut rows: Vec<_> = replies
            .iter()
            .flat_map(|replies| &replies.states)
            .map(|state| Row::new([state.state.to_owned(), state.count.to_string(), span(state.oldest_seconds)]))
            .collect();
        if let Some(late) = replies.map(|replies| replies.overdue).filter(|late| *late > 0) {
            rows.push(Row::new(["OVERDUE".to_owned(), late.to_string(), String::new()]).style(self.bad()));
        }
        for breaker in &self.status.breakers {
            let open = breaker.open_at.len();
            let (state, style) = if open == 0 {
                ("closed".to_owned(), Style::new())
            } else {
                (format!("OPEN {open}/{}", breaker.workers), self.bad())
            };
            rows.push(Row::new([breaker.provider.clone(), state, "breaker".to_owned()]).style(style));
        }
        let widths = [Constraint::Min(17), Constraint::Length(8), Constraint::Length(7)];
        let title = "Open replies, providers";
        Table::new(rows, widths).header(heading(["STATE", "COUNT", "OLDEST"])).block(Block::bordered().title(title))
    }

    fn draw_waiting(&self, frame: &mut Frame<'_>, area: Rect) {
        let now = self.waiting.last().copied().unwrap_or(0);
        let most = self.waiting.iter().copied().max().unwrap_or(0);
        let block = Block::bordered().title(format!("Records that wait: {now} (at most {most} in view)"));
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let [bars, topics] = Layout::vertical([Constraint::Length(2), Constraint::Min(1)]).areas(inner);
        let from = self.waiting.len().saturating_sub(usize::from(bars.width));
        frame.render_widget(Sparkline::default().data(&self.waiting[from..]), bars);
        let row = |lag: &crate::roles::status::view::LagView| {
            let oldest = match (lag.records, lag.seconds) {
                (0, _) => String::new(),
                (_, None) => "age not known".to_owned(),
                (_, Some(seconds)) => format!("oldest {}", span(seconds)),
            };
            let records = format!("{} waiting", lag.records);
            Row::new([Cell::from(lag.topic.clone()), Cell::from(records), Cell::from(oldest)])
        };
        let rows: Vec<_> = self.status.lag.iter().map(row).collect();
        let widths = [Constraint::Length(24), Constraint::Length(18), Constraint::Min(10)];
        frame.render_widget(Table::new(rows, widths), topics);
    }

    fn desks(&self) -> Table<'_> {
        let mut desks: Vec<_> = self.status.desks.iter().collect();
        let unwell = |state: &str| matches!(state, "silent" | "cloned");
        // Those that are not well come first: what does not fit is not shown.
        desks.sort_by_key(|desk| !unwell(&desk.state));
        let row = |desk: &crate::roles::status::view::DeskLine| {
            let heard = desk.silent_seconds.map_or_else(|| "never".to_owned(), span);
            let cells = [desk.desktop.clone(), desk.host.clone(), desk.state.clone(), heard, desk.accounts.join(", ")];
            Row::new(cells).style(if unwell(&desk.state) { self.bad() } else { Style::new() })
        };
        let rows: Vec<_> = desks.into_iter().map(row).collect();
        let widths = [
            Constraint::Length(16),
            Constraint::Length(16),
            Constraint::Length(8),
            Constraint::Length(7),
            Constraint::Min(10),
        ];
        let title = format!("Desks ({})", self.status.desks.len());
        let head = ["DESK", "MACHINE", "STATE", "HEARD", "ANSWERS FOR"];
        Table::new(rows, widths).header(heading(head)).block(Block::bordered().title(title))
    }
}

fn heading<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Style::new().add_modifier(Modifier::BOLD))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::still;
    use super::*;
    use crate::roles::status::samples::{hurting, well};

    fn drawn(status: &Status, paint: Paint, size: (u16, u16)) -> String {
        let rates = Rates {
            turns: 12.25,
            replies: BTreeMap::from([("confirmed".to_owned(), 11.0), ("superseded".to_owned(), 0.5)]),
        };
        let waiting: Vec<u64> = (0..60).map(|n| n * n).collect();
        still(&Picture { status, rates: &rates, waiting: &waiting, footer: "q quits", paint }, size)
    }

    #[test]
    fn a_frame_without_colour_says_everything_in_words() {
        insta::assert_snapshot!("well", drawn(&well(), Paint::plain(), (100, 34)));
        insta::assert_snapshot!("hurting", drawn(&hurting(), Paint::plain(), (100, 34)));
        assert_eq!(drawn(&hurting(), Paint::coloured(), (100, 34)), drawn(&hurting(), Paint::plain(), (100, 34)));
    }

    #[test]
    fn a_small_terminal_breaks_nothing() {
        for size in [(1, 1), (20, 5), (80, 24), (300, 90)] {
            let _drawn = drawn(&hurting(), Paint::plain(), size);
        }
        let empty = Status { workers: Vec::new(), lag: Vec::new(), desks: Vec::new(), replies: None, ..well() };
        assert!(drawn(&empty, Paint::plain(), (80, 24)).contains("Workers (0)"));
    }
}
