//! Modules and functions as their users write them. Nothing is asked whether it exists.

use flyhot_upgrade::NodeFunction;

/// An atom's longest text (OTP: 255 characters).
const ATOM: usize = 255;

/// What the name of a module of Elixir begins with on a node.
const ELIXIR: &str = "Elixir.";

/// The atom of a module: `Elixir.Shop.Cart` for `Shop.Cart`, `shop_cart` for `shop_cart`.
pub(super) fn module(text: &str) -> Option<String> {
    let atom = match text.chars().next()? {
        'A'..='Z' if text.starts_with(ELIXIR) => text.to_owned(),
        'A'..='Z' => format!("{ELIXIR}{text}"),
        _ => text.to_owned(),
    };
    let good = match atom.strip_prefix(ELIXIR) {
        Some(alias) => alias
            .split('.')
            .all(|part| part.starts_with(|first: char| first.is_ascii_uppercase()) && word(part)),
        None => plain(&atom) && word(&atom),
    };
    (good && atom.len() <= ATOM).then_some(atom)
}

/// The function without arguments: `Shop.Health.ready?`, or `shop_health:ready` for a module of Erlang.
pub(super) fn function(text: &str) -> Option<NodeFunction> {
    let (of, name) = match text.split_once(':') {
        Some((of, name)) if plain(of) => (of, name),
        Some(_) => return None,
        None => text
            .rsplit_once('.')
            .filter(|(of, _)| of.starts_with(|first: char| first.is_ascii_uppercase()))?,
    };
    let bare = name.strip_suffix(['?', '!']).unwrap_or(name);
    let good = (plain(bare) || bare.starts_with('_')) && word(bare) && name.len() <= ATOM;
    good.then_some(NodeFunction {
        module: module(of)?,
        function: name.to_owned(),
    })
}

fn plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
}

fn word(text: &str) -> bool {
    text.chars()
        .all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '@'))
}
