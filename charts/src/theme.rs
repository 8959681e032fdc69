//! Colours by their names, in light and in dark. Text on its ground has a contrast of 4.5
//! or more (WCAG 2.2, success criterion 1.4.3), and a chart's colours of 3 (1.4.11).

use serde::Deserialize;

/// Name, light, dark.
const COLOURS: [(&str, &str, &str); 17] = [
    ("ground", "#f6f7f9", "#0e1116"),
    ("card", "#ffffff", "#161a21"),
    ("edge", "#e2e5ea", "#272d37"),
    ("text", "#1c2128", "#e6e9ee"),
    ("mute", "#5c6673", "#9aa5b4"),
    ("grid", "#eceef1", "#222832"),
    ("accent", "#1f5fbf", "#6ea8ff"),
    ("good", "#2f7fd6", "#4c94e8"),
    ("quiet", "#8695a8", "#6f7f94"),
    ("warn", "#c27c0e", "#dc9a2f"),
    ("bad", "#cf3a3f", "#ec6a6e"),
    ("low", "#7fb2ea", "#3d6ea8"),
    ("middle", "#2f7fd6", "#5b9ff0"),
    ("high", "#173f73", "#b9d7ff"),
    ("extra1", "#7a57c2", "#a184e6"),
    ("extra2", "#1f8a70", "#3fb89a"),
    ("extra3", "#a8518a", "#d27fb5"),
];

/// What charts look like, by their classes.
pub const CHART_CSS: &str = include_str!("chart.css");

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// On white.
    #[default]
    Light,
    /// On black.
    Dark,
}

impl Theme {
    fn colours(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        COLOURS.iter().map(move |(name, light, dark)| match self {
            Self::Light => (*name, *light),
            Self::Dark => (*name, *dark),
        })
    }

    /// A colour by its name.
    pub fn colour(self, name: &str) -> &'static str {
        self.colours().find(|(of, _)| *of == name).map_or("#000000", |(_, colour)| colour)
    }

    /// The colours as custom properties of CSS.
    pub fn properties(self) -> String {
        self.colours().map(|(name, colour)| format!("--{name}:{colour};")).collect()
    }

    /// A style sheet with the colours filled in, for what knows no properties.
    pub fn resolved(self, css: &str) -> String {
        self.colours().fold(css.to_owned(), |css, (name, colour)| {
            css.replace(&format!("var(--{name})"), colour)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast of two colours (WCAG 2.2, definition of contrast ratio).
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |colour: &str| {
            let part = |at: usize| {
                let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn everything_can_be_seen_on_its_ground() {
        for theme in [Theme::Light, Theme::Dark] {
            let of = |name: &str| theme.colour(name);
            for ground in ["ground", "card"] {
                for text in ["text", "mute", "accent"] {
                    let found = contrast(of(text), of(ground));
                    assert!(found >= 4.5, "{text} on {ground}, {theme:?}: {found:.2}");
                }
            }
            for shape in
                ["good", "quiet", "warn", "bad", "middle", "high", "extra1", "extra2", "extra3"]
            {
                let found = contrast(of(shape), of("card"));
                assert!(found >= 3.0, "{shape}, {theme:?}: {found:.2}");
            }
        }
    }

    #[test]
    fn no_colour_is_left_open() {
        let css = Theme::Light.resolved(CHART_CSS);
        assert!(!css.contains("var("), "{css}");
    }
}
