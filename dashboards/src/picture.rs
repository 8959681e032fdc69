//! A board as one picture: SVG for the whole, and PNG from it.

mod table;

use std::fmt::Write as _;

use crate::board::{Board, Panel};
use crate::content::Content;
use crate::page::{Filled, where_of};
use charts::raster::{self, Error};
use charts::theme::{self, Theme};
use charts::{WIDE, escaped, text_width};

use self::table::Laid;

/// The page's width and the room around and between panels, in CSS pixels.
const WIDTH: f64 = 1240.0;
const MARGIN: f64 = 24.0;
const GAP: f64 = 16.0;
const PAD: f64 = 16.0;
/// Pixels of the picture for each of CSS, so that it is sharp when printed.
const SCALE: f32 = 2.0;

/// How texts are written: size and colour.
const TITLE: (f64, &str) = (22.0, "text");
const HEADING: (f64, &str) = (13.0, "text");
const STAT: (f64, &str) = (28.0, "text");
const SMALL: (f64, &str) = (12.0, "mute");

/// What is drawn so far, and in which colours.
struct Drawing {
    svg: String,
    theme: Theme,
}

/// Draws a board.
pub(crate) fn png(board: &Board, filled: &Filled, theme: Theme) -> Result<Vec<u8>, Error> {
    raster::png(&svg(board, filled, theme), SCALE)
}

fn svg(board: &Board, filled: &Filled, theme: Theme) -> String {
    let mut drawn = Drawing { svg: String::new(), theme };
    text(&mut drawn, (MARGIN, MARGIN + 20.0), TITLE, &board.title);
    let mut y = MARGIN + 44.0;
    if !board.about.is_empty() {
        text(&mut drawn, (MARGIN, y), (13.0, "mute"), &board.about);
        y += 20.0;
    }
    let range = format!("{}, {}", where_of(&filled.view), filled.view.words());
    text(&mut drawn, (MARGIN, y), HEADING, &range);
    y += 20.0;
    let panels: Vec<(&Panel, &Content)> = board.panels.iter().zip(&filled.contents).collect();
    for row in rows(&panels) {
        let height = row.iter().map(|(of, content)| height(of, content)).fold(0.0, f64::max);
        let mut x = MARGIN;
        for (of, content) in row {
            let width = width(of);
            panel(&mut drawn, of, content, (x, y), (width, height));
            x += width + GAP;
        }
        y += height + GAP;
    }
    let made = format!("Made by Weir at {}.", filled.made);
    text(&mut drawn, (MARGIN, y + 8.0), SMALL, &made);
    let height = y + 8.0 + MARGIN;
    let (css, ground) = (theme.resolved(theme::CHART_CSS), theme.colour("ground"));
    let drawn = drawn.svg;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"><style>{css}</style><rect width="100%" height="100%" fill="{ground}"/>{drawn}</svg>"#
    )
}

/// Panels side by side, as long as they fit into 12 columns.
fn rows<'a>(panels: &[(&'a Panel, &'a Content)]) -> Vec<Vec<(&'a Panel, &'a Content)>> {
    let mut rows: Vec<Vec<_>> = Vec::new();
    let mut taken = 12;
    for (of, content) in panels {
        if taken + u32::from(of.width) > 12 {
            rows.push(Vec::new());
            taken = 0;
        }
        taken += u32::from(of.width);
        if let Some(row) = rows.last_mut() {
            row.push((*of, *content));
        }
    }
    rows
}

/// Where a panel's content begins.
fn head(panel: &Panel) -> f64 {
    if panel.about.is_empty() { PAD + 24.0 } else { PAD + 42.0 }
}

fn width(panel: &Panel) -> f64 {
    let column = (WIDTH - 2.0 * MARGIN + GAP) / 12.0;
    column * f64::from(panel.width) - GAP
}

fn height(panel: &Panel, content: &Content) -> f64 {
    let body = match content {
        Content::Stat { .. } => 56.0,
        Content::Chart(_) => WIDE.1,
        Content::Table(table) => Laid::out(table, width(panel) - 2.0 * PAD).height(),
        Content::Empty(_) | Content::Failed(_) => 64.0,
    };
    head(panel) + body + PAD
}

fn panel(
    drawn: &mut Drawing,
    of: &Panel,
    content: &Content,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
) {
    let (card, edge) = (drawn.theme.colour("card"), drawn.theme.colour("edge"));
    let _ = write!(
        drawn.svg,
        r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{card}" stroke="{edge}"/>"#
    );
    let (left, room) = (x + PAD, width - 2.0 * PAD);
    text(drawn, (left, y + PAD + 12.0), HEADING, &of.title);
    if !of.about.is_empty() {
        text(drawn, (left, y + PAD + 30.0), SMALL, &fitted(&of.about, room, 12.0));
    }
    let top = y + head(of);
    match content {
        Content::Stat { value, beside } => {
            text(drawn, (left, top + 26.0), STAT, value);
            if let Some(beside) = beside {
                text(drawn, (left, top + 50.0), SMALL, &fitted(beside, room, 12.0));
            }
        }
        Content::Chart(chart) => {
            let (width, height) = (room, WIDE.1 * room / WIDE.0);
            let svg = chart.svg((WIDE.0, WIDE.1));
            let placed = format!(r#"<svg x="{left}" y="{top}" width="{width}" height="{height}""#);
            drawn.svg.push_str(&svg.replacen("<svg", &placed, 1));
        }
        Content::Table(table) => Laid::out(table, room).draw(drawn, (left, top)),
        Content::Empty(why) | Content::Failed(why) => {
            text(drawn, (left, top + 32.0), SMALL, &fitted(why, room, 12.0));
        }
    }
}

/// As much of a text as there is room for.
fn fitted(text: &str, room: f64, size: f64) -> String {
    let width = |text: &str| text_width(text) * size / 11.0;
    if width(text) <= room {
        return text.to_owned();
    }
    let mut cut: String = text.to_owned();
    while cut.pop().is_some() && width(&cut) + 10.0 > room {}
    format!("{}…", cut.trim_end())
}

fn text(drawn: &mut Drawing, at: (f64, f64), style: (f64, &str), text: &str) {
    write_text(drawn, at, style, text, "start");
}

fn ended(drawn: &mut Drawing, at: (f64, f64), style: (f64, &str), text: &str) {
    write_text(drawn, at, style, text, "end");
}

fn write_text(
    drawn: &mut Drawing,
    (x, y): (f64, f64),
    (size, colour): (f64, &str),
    text: &str,
    anchor: &str,
) {
    let safe = escaped(text);
    let fill = drawn.theme.colour(colour);
    let _ = write!(
        drawn.svg,
        r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">{safe}</text>"#
    );
}
