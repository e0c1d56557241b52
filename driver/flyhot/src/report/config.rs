//! What arguments, configuration and environment say, as text.

use std::fmt::Write as _;

use flyhot_events::Setting;

use super::words;

/// One line each: name, value, and who said it where that was asked for.
pub(super) fn text(settings: &[Setting]) -> String {
    let widest = |of: &dyn Fn(&Setting) -> String| settings.iter().map(|one| of(one).chars().count()).max();
    let name = |setting: &Setting| words::plain(&setting.name);
    let names = widest(&name).unwrap_or_default();
    let values = widest(&value).unwrap_or_default();
    let mut text = String::new();
    for setting in settings {
        let (name, value) = (name(setting), value(setting));
        let _ = match &setting.place {
            Some(place) => writeln!(
                text,
                "  {name:<names$}  {value:<values$}  {}",
                words::plain(place)
            ),
            None => writeln!(text, "  {name:<names$}  {value}"),
        };
    }
    text
}

fn value(setting: &Setting) -> String {
    match &setting.value {
        Some(value) => words::plain(value),
        None if setting.secret => "(not shown)".to_owned(),
        None => "(not set)".to_owned(),
    }
}
