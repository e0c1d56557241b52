//! The token: sent, and never shown.

use std::fmt;

use reqwest::header::HeaderValue;

/// Beginnings of macaroons; anything else is a token of OAuth.
const MACAROONS: [&str; 3] = ["fm1r_", "fm1a_", "fm2_"];

/// Words that people put before a token, because documentation does.
const SCHEMES: [&str; 2] = ["bearer", "flyv1"];

/// What stands for a token in a text.
const HIDDEN: &str = "(token)";

/// A token of Fly.
#[derive(Clone)]
pub struct Token {
    parts: Vec<String>,
    header: HeaderValue,
}

/// Why a text is no token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Nothing is there.
    #[error("the token is empty")]
    Empty,
    /// It cannot be sent.
    #[error("the token holds a space, a line break or a letter that no token has")]
    Letters,
}

impl Token {
    /// Takes a token as people have it, with or without `Bearer` or `FlyV1`, or both, before it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = without_schemes(text);
        let parts: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        if parts.is_empty() {
            return Err(TokenError::Empty);
        }
        if parts
            .iter()
            .any(|part| !part.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(TokenError::Letters);
        }
        let macaroons: Vec<&str> = parts.iter().copied().filter(|part| is_macaroon(part)).collect();
        // The Machines API takes no token of OAuth beside macaroons.
        let (scheme, sent) = if macaroons.is_empty() {
            ("Bearer", &parts)
        } else {
            ("FlyV1", &macaroons)
        };
        let mut header = HeaderValue::from_str(&format!("{scheme} {}", sent.join(",")))
            .map_err(|_| TokenError::Letters)?;
        header.set_sensitive(true);
        Ok(Self {
            parts: parts.into_iter().map(str::to_owned).collect(),
            header,
        })
    }

    /// As text, for whoever it is handed on to; in no argument of a program.
    pub fn expose(&self) -> String {
        self.parts.join(",")
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// A text in which no part of the token is left: a server may say what it was sent.
    pub(crate) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for part in &self.parts {
            text = text.replace(part.as_str(), HIDDEN);
        }
        text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Strips the words before a token again and again: `Bearer FlyV1 fm2_...` is what the documentation's own lines make.
fn without_schemes(text: &str) -> &str {
    let text = text.trim();
    let stripped = SCHEMES.iter().find_map(|scheme| {
        let (word, rest) = text.split_at_checked(scheme.len())?;
        let ends = rest.is_empty() || rest.starts_with(char::is_whitespace);
        (ends && word.eq_ignore_ascii_case(scheme)).then_some(rest)
    });
    stripped.map_or(text, without_schemes)
}

fn is_macaroon(part: &str) -> bool {
    MACAROONS.iter().any(|beginning| part.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_before_it_follows_from_what_it_is() {
        for (given, sent) in [
            ("fm2_abc", "FlyV1 fm2_abc"),
            ("FlyV1 fm2_abc", "FlyV1 fm2_abc"),
            ("Bearer FlyV1 fm1r_abc,fm1a_def", "FlyV1 fm1r_abc,fm1a_def"),
            ("bearer  FLYV1 bearer fm2_a, fm2_b\n", "FlyV1 fm2_a,fm2_b"),
            ("an-oauth-token", "Bearer an-oauth-token"),
            ("oauth,fm2_a", "FlyV1 fm2_a"),
            ("fo1_abc", "Bearer fo1_abc"),
        ] {
            assert_eq!(Token::new(given).unwrap().header(), sent, "{given}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (given, error) in [
            ("", TokenError::Empty),
            ("Bearer ", TokenError::Empty),
            ("  FlyV1 , ", TokenError::Empty),
            ("fm2_a b", TokenError::Letters),
            ("fm2_a\r\nhost: elsewhere", TokenError::Letters),
            ("fm2_ä", TokenError::Letters),
        ] {
            assert_eq!(Token::new(given).err(), Some(error), "{given:?}");
        }
    }

    #[test]
    fn it_is_not_shown() {
        let token = Token::new("FlyV1 fm2_secret,fm2_other").unwrap();
        let shown = format!("{token:?} {:?}", token.header());
        assert!(!shown.contains("secret") && !shown.contains("other"), "{shown}");
        assert_eq!(
            token.hide("refused fm2_secret,fm2_other!"),
            "refused (token),(token)!"
        );
    }
}
