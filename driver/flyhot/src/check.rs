//! Whether a node answers at a URL: the gate of a rollout that asks from outside.
//!
//! It follows no redirect and reads no body: an answer of 2xx or 3xx is one that is well, and no answer is none.

use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use flyhot_node::NodeName;
use tokio::time::Instant;

use crate::drive::NodeError;
use crate::errors;
use crate::options::policy::{GATE_EVERY, GATE_WITHIN};

/// Stands for the host of the node.
const HOST: &str = "{host}";

/// How long one answer may take: whoever asks a page waits no longer.
const ANSWER: Duration = Duration::from_secs(5);

/// A URL that each node has.
#[derive(Debug)]
pub(crate) struct Check {
    url: String,
    /// Where the URL is the same for every node: the host of the only one that it was given for.
    only: Option<String>,
    connector: Connector,
}

impl Check {
    /// Looks whether it is a URL for each of these nodes, and for so many that may be there soon.
    ///
    /// # Errors
    /// [`NodeError`]: it is none.
    pub(crate) fn new<'n>(
        url: &str,
        nodes: impl IntoIterator<Item = &'n NodeName>,
        soon: usize,
    ) -> Result<Self, NodeError> {
        let nodes: Vec<&NodeName> = nodes.into_iter().collect();
        let is_one = !url.contains(HOST);
        let check = Self {
            url: url.to_owned(),
            only: nodes
                .first()
                .filter(|_| is_one)
                .map(|node| node.host().to_owned()),
            connector: Connector::builder()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .enable_tcp_nodelay(true)
                .build(),
        };
        if nodes.len() + soon > 1 && is_one {
            return Err(errors::one_url(shown(url)));
        }
        let http = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        for node in nodes {
            let url = check.of(node);
            if !http(&url) || HttpRequest::get(&url).is_err() || !has_port(&url) {
                return Err(errors::no_url(shown(&url)));
            }
        }
        Ok(check)
    }

    /// The URL of one node.
    fn of(&self, node: &NodeName) -> String {
        let host = node.host();
        // RFC 3986, 3.2.2: colons of an address would be taken for that of the port.
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        self.url.replace(HOST, &host)
    }

    /// Asks until it is answered well. How often it was asked; or what came back last, and what to do about it.
    pub(crate) async fn ask(&self, node: &NodeName) -> Result<u64, (String, String)> {
        // One that has joined since would be well by the answer of the first.
        if self.only.as_ref().is_some_and(|only| only != node.host()) {
            let error = errors::one_url(shown(&self.url));
            return Err((error.message, error.hint));
        }
        let url = self.of(node);
        let asking = until_well(GATE_WITHIN, async || {
            match tokio::time::timeout(ANSWER, self.get(&url)).await {
                Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
                Ok(Ok(status)) => Err(format!("the answer was {status}")),
                Ok(Err(why)) => Err(why),
                Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
            }
        });
        asking.await.map_err(|(asked, found)| {
            let found = format!(
                "{} did not answer well within {} s, asked {asked} times: {found}",
                shown(&url),
                GATE_WITHIN.as_secs()
            );
            (found, "Look at the node; the same command asks again.".to_owned())
        })
    }

    async fn get(&self, url: &str) -> Result<u16, String> {
        let request = HttpRequest::get(url).map_err(|error| errors::chain(&error))?;
        let answer = self.connector.call(request).await;
        answer
            .map(|answer| answer.status().as_u16())
            .map_err(|error| errors::chain(&error))
    }
}

/// Asks until it is well, for so long. How often it was asked; where it never was, what came back last too.
async fn until_well(
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<(), String>,
) -> Result<u64, (u64, String)> {
    let end = Instant::now() + within;
    let mut asked = 0;
    loop {
        let next = Instant::now() + GATE_EVERY;
        asked += 1;
        match ask().await {
            Ok(()) => return Ok(asked),
            Err(found) if next >= end => return Err((asked, found)),
            Err(_) => tokio::time::sleep_until(next).await,
        }
    }
}

/// Whether the port is one, where one is named; the library finds out when it connects.
fn has_port(url: &str) -> bool {
    let after = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    // RFC 3986, 3.2.2: colons between brackets are those of an address.
    let host = authority.rsplit(['@', ']']).next().unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    port.is_none_or(|port| port.is_ok_and(|port| port > 0))
}

/// What may be seen of a URL: a password before the host and what stands behind `?` may be secrets.
fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else {
        return plain.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn node(host: &str) -> NodeName {
        format!("shop@{host}").parse().unwrap()
    }

    #[test]
    fn each_node_has_its_url() {
        let node = node("fdaa:0:1::2");
        let nodes = [node.clone()];
        let check = Check::new("http://{host}:4000/{host}", &nodes, 0).unwrap();
        assert_eq!(check.of(&node), "http://[fdaa:0:1::2]:4000/[fdaa:0:1::2]");
        for none in [
            "{host}:4000",
            "ftp://{host}",
            "http://{host} :4000",
            "http://",
            "http://{host}:99999",
            "http://{host}:0/a:1",
        ] {
            let error = Check::new(none, &nodes, 0).unwrap_err();
            assert_eq!(error.kind, flyhot_events::ErrorKind::Usage, "{none}");
        }
        assert!(Check::new("https://{host}/a:99999", &nodes, 2).is_ok());
        assert!(Check::new("http://shop.internal/health", &nodes, 0).is_ok());
        let two = [node.clone(), node.clone()];
        for (there, soon) in [(&two[..], 0), (&two[..1], 1)] {
            let error = Check::new("http://shop.internal/health", there, soon).unwrap_err();
            assert!(error.message.contains("every node"), "{}", error.message);
        }
    }

    #[test]
    fn what_may_be_secret_of_a_url_is_not_shown() {
        for (url, expected) in [
            ("http://user:pw@a:1/health?token=t", "http://a:1/health"),
            ("https://a", "https://a"),
            ("http://a/b@c#d", "http://a/b@c"),
            ("http://u@v@[fdaa::2]:4000/", "http://[fdaa::2]:4000/"),
            ("user:pw?x", "user:pw"),
        ] {
            assert_eq!(shown(url), expected);
        }
        let node = node("127.0.0.1");
        let error = Check::new("http://u:pw@{host} /?key", &[node], 0).unwrap_err();
        assert!(
            !error.message.contains("pw") && !error.message.contains("key"),
            "{}",
            error.message
        );
    }

    /// A server that answers each connection with the next status, the last one again and again.
    fn serve(statuses: &'static [u16]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let status = statuses[at.min(statuses.len() - 1)];
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} Said\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
        });
        port
    }

    #[test]
    fn it_asks_until_it_is_answered_well_and_follows_nobody() {
        let node = node("127.0.0.1");
        for (statuses, asked) in [(&[200][..], 1), (&[302], 1), (&[503, 404, 204], 3)] {
            let url = format!("http://{{host}}:{}/health", serve(statuses));
            let check = Check::new(&url, std::slice::from_ref(&node), 0).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            assert_eq!(runtime.block_on(check.ask(&node)), Ok(asked), "{statuses:?}");
        }
    }

    #[test]
    fn who_joins_is_not_well_by_the_answer_of_another() {
        let port = serve(&[200]);
        let (first, joined) = (node("127.0.0.1"), node("127.0.0.2"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let check = |url: &str| Check::new(url, [&first], 0).unwrap();
        let one = check(&format!("http://u:pw@127.0.0.1:{port}/health"));
        // Started anew it is still the one that was meant.
        for _ in 0..2 {
            assert_eq!(runtime.block_on(one.ask(&first)), Ok(1));
        }
        let (found, hint) = runtime.block_on(one.ask(&joined)).unwrap_err();
        assert!(found.contains("one of them could answer for another"), "{found}");
        assert!(hint.contains("{host}") && !found.contains("pw"), "{found} {hint}");
        let each = check(&format!("http://{{host}}:{port}/health"));
        assert_eq!(each.only, None);
    }
}
