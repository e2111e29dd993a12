//! `autoreply top`: the status, live. On a terminal it draws until `q`; elsewhere it prints one frame, or with `--json`
//! one line of JSON a look.

mod frame;
mod meter;

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use futures::StreamExt as _;
use ratatui::backend::TestBackend;
use ratatui::{DefaultTerminal, Terminal};
use serde::Serialize;
use tokio::time::Instant;

use self::frame::Picture;
use self::meter::{Meter, Rates};
use super::Context;
use super::paint::Paint;
use super::status::sources::Sources;
use super::status::view::Status;
use crate::error::Problem;

/// The size of a frame that is printed.
const STILL: (u16, u16) = (100, 40);

/// One look, as a line of JSON.
#[derive(Serialize)]
struct Look<'a> {
    /// What happens in a second.
    rates: &'a Rates,
    #[serde(flatten)]
    status: &'a Status,
}

/// Shows the status every so often: live on a terminal; once where `once` says so or where there is no terminal; as lines
/// of JSON where the context says so.
///
/// # Errors
/// The terminal cannot be drawn on.
pub async fn run(context: &Context, every: Duration, once: bool) -> Result<(), Problem> {
    let mut sources = Sources::new(context);
    let paint = Paint::of(context);
    let done = if context.json {
        lines(&mut sources, every, once).await;
        Ok(())
    } else if once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        print_still(&mut sources, every).await;
        Ok(())
    } else {
        live(&mut sources, every, paint).await
    };
    sources.close().await;
    done
}

/// Prints a line a look, until nobody reads any more.
async fn lines(sources: &mut Sources, every: Duration, once: bool) {
    let mut meter = Meter::default();
    loop {
        let began = Instant::now();
        let status = sources.look().await;
        let rates = meter.take(&status);
        let look = Look { rates: &rates, status: &status };
        let line = serde_json::to_string(&look).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
        if !write(&format!("{line}\n")) || once {
            return;
        }
        tokio::time::sleep_until(began + every).await;
    }
}

/// Looks twice, so that there are rates, and prints a frame.
async fn print_still(sources: &mut Sources, every: Duration) {
    let mut meter = Meter::default();
    meter.take(&sources.look().await);
    tokio::time::sleep(every).await;
    let status = sources.look().await;
    let (rates, waiting) = (meter.take(&status), meter.waiting());
    let picture = Picture { status: &status, rates: &rates, waiting: &waiting, footer: "", paint: Paint::plain() };
    write(&still(&picture, STILL));
}

/// A picture as lines of text.
fn still(picture: &Picture<'_>, (width, height): (u16, u16)) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let drawn: Result<_, Infallible> = terminal.draw(|frame| picture.draw(frame));
    let Ok(drawn) = drawn;
    let cells = drawn.buffer.content().chunks(usize::from(width.max(1)));
    let lines = cells.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| format!("{}\n", line.trim_end())).collect::<String>().trim_end().to_owned() + "\n"
}

/// Whether somebody still reads.
fn write(text: &str) -> bool {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Draws until the person has seen enough; the terminal is given back as it was, also after a panic.
async fn live(sources: &mut Sources, every: Duration, paint: Paint) -> Result<(), Problem> {
    let unusable = |error: std::io::Error| {
        let what = format!("the terminal cannot be drawn on ({error})");
        Problem::new(what, "autoreply top", "Use --once, or `autoreply status`")
    };
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let mut screen = Screen { terminal: &mut terminal, paint, footer: footer(every), shown: None };
    let ended = tokio::select! {
        ended = watch(sources, every, &mut screen) => ended,
        _asked = crate::lifecycle::stop_signal() => Ok(()),
    };
    ratatui::restore();
    ended.map_err(unusable)
}

fn footer(every: Duration) -> String {
    format!("q quits    looks every {} s", every.as_secs_f64())
}

/// What is on the terminal.
struct Screen<'a> {
    terminal: &'a mut DefaultTerminal,
    paint: Paint,
    footer: String,
    shown: Option<(Status, Rates, Vec<u64>)>,
}

impl Screen<'_> {
    fn draw(&mut self) -> std::io::Result<()> {
        let (paint, footer) = (self.paint, self.footer.as_str());
        let shown = self.shown.as_ref();
        self.terminal.draw(|frame| match shown {
            None => frame.render_widget("Looking ... (q quits)", frame.area()),
            Some((status, rates, waiting)) => Picture { status, rates, waiting, footer, paint }.draw(frame),
        })?;
        Ok(())
    }
}

/// Looks and draws until `q`.
async fn watch(sources: &mut Sources, every: Duration, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let (mut meter, mut events) = (Meter::default(), EventStream::new());
    screen.draw()?;
    loop {
        let began = Instant::now();
        let Some(status) = attend(screen, &mut events, sources.look()).await? else { return Ok(()) };
        let rates = meter.take(&status);
        screen.shown = Some((status, rates, meter.waiting()));
        screen.draw()?;
        if attend(screen, &mut events, tokio::time::sleep_until(began + every)).await?.is_none() {
            return Ok(());
        }
    }
}

/// Waits for `work` and draws anew when the terminal changes; nothing when the person quits.
async fn attend<T>(
    screen: &mut Screen<'_>,
    events: &mut EventStream,
    work: impl Future<Output = T>,
) -> std::io::Result<Option<T>> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(Some(done)),
            event = events.next() => match event {
                None => return Ok(None),
                Some(event) => {
                    if quits(&event?) {
                        return Ok(None);
                    }
                    screen.draw()?;
                }
            },
        }
    }
}

/// `q`, Escape, or Ctrl-C, which a terminal that is drawn on hands over as a key.
fn quits(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let interrupted = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;
    use crate::roles::status::samples::well;

    #[test]
    fn q_escape_and_ctrl_c_quit_and_nothing_else_does() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(quits(&key(KeyCode::Char('q'), KeyModifiers::NONE)) && quits(&key(KeyCode::Esc, KeyModifiers::NONE)));
        assert!(quits(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!quits(&key(KeyCode::Char('c'), KeyModifiers::NONE)) && !quits(&Event::Resize(80, 24)));
    }

    #[test]
    fn a_line_of_json_has_the_status_and_the_rates_side_by_side() {
        let (status, rates) = (well(), Rates { turns: 2.5, ..Rates::default() });
        let line = serde_json::to_string(&Look { rates: &rates, status: &status }).unwrap();
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!((read["rates"]["turns"].as_f64(), read["well"].as_bool()), (Some(2.5), Some(true)));
        assert_eq!(read["workers"][0]["name"], "north-7");
    }
}
