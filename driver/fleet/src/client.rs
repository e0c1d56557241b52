//! The client of one app, and what is asked of the app and of the token.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::{Method, Url};
use serde_json::Value;

use crate::ask::Ask;
use crate::error::FlyError;
use crate::machine::MachineId;
use crate::pace::{Action, Pace};
use crate::token::Token;

/// The Machines API as everybody reaches it.
pub const PUBLIC: &str = "https://api.machines.dev";

/// How long a connection may take: three losses of its first packet.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an ordinary request is tried: a restart of what fails at Fly, and no longer than somebody looks at a silent terminal.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How long after a machine was made it may not be known everywhere: flyctl asks again for as long.
const FRESH: Duration = Duration::from_secs(20);

/// The name of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App(String);

impl FromStr for App {
    type Err = FlyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > 63 || !text.bytes().all(fits) {
            return Err(FlyError::Name {
                found: text.chars().take(64).collect(),
                what: "an app: 1 to 63 of a-z, 0-9 and - are",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user, where it is of one.
    pub user: Option<String>,
    /// The organization.
    pub organization: String,
    /// The apps that it is restricted to; none: all of the organization.
    pub apps: Vec<String>,
}

/// The client. One of them is for all requests of a process: it counts them.
pub struct Fly {
    pub(crate) http: reqwest::Client,
    address: Url,
    pub(crate) app: App,
    pub(crate) token: Token,
    give_up: Duration,
    pace: Mutex<Pace>,
    /// Machines that were made here, and when.
    fresh: Mutex<HashMap<MachineId, Instant>>,
}

impl fmt::Debug for Fly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fly")
            .field("address", &self.address.as_str())
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

impl Fly {
    /// For an app, at an address such as [`PUBLIC`].
    ///
    /// # Errors
    /// [`FlyError::Address`].
    pub fn new(address: &str, app: App, token: Token) -> Result<Self, FlyError> {
        let wrong = |why: String| FlyError::Address {
            found: address.chars().take(200).collect(),
            why,
        };
        let url = Url::parse(address).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("it begins with neither http:// nor https://".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FlyError::Address {
                found: "(with a password)".to_owned(),
                why: "a token is no part of an address".to_owned(),
            });
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .user_agent(concat!("flyhot/", env!("CARGO_PKG_VERSION")))
            // Whoever redirects is not the API, and would be shown the token.
            .redirect(reqwest::redirect::Policy::none())
            // What is repeated is decided here.
            .retry(reqwest::retry::never())
            .no_proxy();
        builder = builder.tls_backend_preconfigured(tls(&url).map_err(&wrong)?);
        Ok(Self {
            http: builder.build().map_err(|error| wrong(error.to_string()))?,
            address: url,
            app,
            token,
            give_up: GIVE_UP,
            pace: Mutex::default(),
            fresh: Mutex::default(),
        })
    }

    /// The same, whose ordinary requests are tried for so long.
    pub fn patient(self, give_up: Duration) -> Self {
        Self { give_up, ..self }
    }

    /// Whether the app is there.
    ///
    /// # Errors
    /// [`FlyError::Absent`], and whatever befalls a request.
    pub async fn app(&self) -> Result<(), FlyError> {
        let doing = format!("looking for the app {}", self.app);
        let ask = Ask::app(doing, Action::App, Method::GET, "");
        self.ask(&ask, self.soon()).await.or_error(&ask.doing).map(|_| ())
    }

    /// Fly's clock, cut to a whole second, as an answer of it says; `None` where it does not.
    ///
    /// # Errors
    /// Whatever befalls a request.
    pub async fn time(&self) -> Result<Option<SystemTime>, FlyError> {
        let doing = "asking Fly for the time".to_owned();
        let ask = Ask::app(doing, Action::App, Method::GET, "");
        let answer = self.ask(&ask, self.soon()).await.or_error(&ask.doing)?;
        Ok(answer.date)
    }

    /// Whom the token speaks for; several, where it is several.
    ///
    /// # Errors
    /// [`FlyError::NotKnown`], and whatever befalls a request.
    pub async fn identity(&self) -> Result<Vec<Identity>, FlyError> {
        let doing = "asking whom the token speaks for".to_owned();
        let ask = Ask::app(doing, Action::Tokens, Method::GET, "");
        let answer = self.ask(&ask, self.soon()).await.or_error(&ask.doing)?;
        Ok(identities(&answer.json(&ask.doing)?))
    }

    /// Until when an ordinary request is tried.
    pub(crate) fn soon(&self) -> Instant {
        Instant::now() + self.give_up
    }

    /// Where a request goes. Only what is checked stands in a path, and no name that Fly gave.
    pub(crate) fn address(&self, ask: &Ask<'_>) -> String {
        let root = self.address.as_str().trim_end_matches('/');
        if ask.action == Action::Tokens {
            return format!("{root}/v1/tokens/current");
        }
        format!("{root}/v1/apps/{}{}", self.app, ask.path)
    }

    /// Waits for the turn of a request; whether there is one, which the server may have put off beyond `until`.
    pub(crate) async fn turn(&self, ask: &Ask<'_>, until: Instant) -> bool {
        let wait = held(&self.pace).take(ask.action, self.of(ask), Instant::now(), until);
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            tokio::time::sleep(wait).await;
        }
        wait.is_some()
    }

    /// Nothing more of this kind for so long.
    pub(crate) fn hold(&self, ask: &Ask<'_>, pause: Duration) {
        held(&self.pace).hold(ask.action, self.of(ask), Instant::now(), pause);
    }

    fn of<'a>(&'a self, ask: &'a Ask<'_>) -> &'a str {
        ask.machine.map_or(&self.app.0, MachineId::as_str)
    }

    /// Whether a machine was made here just now, so that who does not know it yet will.
    pub(crate) fn is_fresh(&self, id: &MachineId) -> bool {
        let made = held(&self.fresh).get(id).copied();
        made.is_some_and(|made| made.elapsed() < FRESH)
    }

    pub(crate) fn made(&self, id: &MachineId) {
        let mut fresh = held(&self.fresh);
        fresh.retain(|_, made| made.elapsed() < FRESH);
        fresh.insert(id.clone(), Instant::now());
    }
}

pub(crate) fn identities(json: &Value) -> Vec<Identity> {
    let tokens = json.get("tokens").and_then(Value::as_array);
    let text = |json: &Value, name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
    let read = |token: &Value| Identity {
        user: text(token, "user").filter(|user| !user.is_empty()),
        organization: text(token, "org_slug")
            .or_else(|| text(token, "organization"))
            .unwrap_or_default(),
        apps: token
            .get("apps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|app| app.as_str().map(str::to_owned))
            .collect(),
    };
    tokens.into_iter().flatten().map(read).collect()
}

/// TLS of ring, with the authorities that this machine trusts. They are looked for only where they are needed.
fn tls(url: &Url) -> Result<tokio_rustls::rustls::ClientConfig, String> {
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let mut roots = RootCertStore::empty();
    if url.scheme() == "https" {
        let found = rustls_native_certs::load_native_certs();
        let (known, _) = roots.add_parsable_certificates(found.certs);
        if known == 0 {
            return Err(
                "this machine has no certificates of authorities: install ca-certificates".to_owned(),
            );
        }
    }
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn client(address: &str) -> Result<Fly, FlyError> {
        Fly::new(
            address,
            "shop".parse().unwrap(),
            Token::new("fm2_secret").unwrap(),
        )
    }

    #[test]
    fn an_address_is_one_of_http() {
        for good in ["http://127.0.0.1:4280", "http://[fdaa::3]:4280/", PUBLIC] {
            let fly = client(good).unwrap();
            assert!(!format!("{fly:?}").contains("secret"));
        }
        for bad in ["", "api.machines.dev", "ftp://a", "unix:///.fly/api", "http://"] {
            assert!(matches!(client(bad), Err(FlyError::Address { .. })), "{bad}");
        }
        let error = client("http://user:secret@host").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_name_is_no_path() {
        for bad in ["", "../orgs", "a/b", "Shop", "a b", "a?b", &"a".repeat(64)] {
            assert!(bad.parse::<App>().is_err(), "{bad}");
            let long = "a".repeat(65);
            let bad = if bad.len() == 64 { long.as_str() } else { bad };
            assert!(bad.parse::<MachineId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn identities_are_read_as_documented_and_otherwise_not_at_all() {
        let json = json!({"tokens": [
            {"org_slug": "acme", "organization": "1", "user": "a@b", "apps": ["shop"]},
            {"organization": "acme", "user": "", "apps": null},
        ]});
        let read = identities(&json);
        assert_eq!(read[0].user.as_deref(), Some("a@b"));
        assert_eq!(
            (&*read[0].organization, &read[0].apps[..]),
            ("acme", &["shop".to_owned()][..])
        );
        assert_eq!((&read[1].user, &*read[1].organization), (&None, "acme"));
        for none in [json!(null), json!([]), json!({"tokens": 1})] {
            assert_eq!(identities(&none), []);
        }
    }
}
