//! A shop with web servers, a database and pages in it: processes of the shapes that ranch, Cowboy, ThousandIsland,
//! Bandit, DBConnection and Phoenix give them (`fixtures/shapes`), with the user's code `Web.*` behind all of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::otp::Otp;
use crate::release::Release;
use crate::shop::Shop;
use crate::wait::wait_until;

/// Longer than any request of these tests stays inside, and than any freeze.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A listener that is resumed listens at once; a loaded machine may make seconds of that.
const OPENS: Duration = Duration::from_secs(30);

/// Below the ports that systems hand out by themselves: nothing takes one while its listener is paused.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

const ERLANG: [(&str, &str); 8] = [
    ("strays", include_str!("../fixtures/shapes/strays.erl")),
    ("ranch", include_str!("../fixtures/shapes/ranch.erl")),
    (
        "ranch_acceptors_sup",
        include_str!("../fixtures/shapes/ranch_acceptors_sup.erl"),
    ),
    (
        "ranch_acceptor",
        include_str!("../fixtures/shapes/ranch_acceptor.erl"),
    ),
    (
        "ranch_conns_sup",
        include_str!("../fixtures/shapes/ranch_conns_sup.erl"),
    ),
    (
        "cowboy_clear",
        include_str!("../fixtures/shapes/cowboy_clear.erl"),
    ),
    ("cowboy_http", include_str!("../fixtures/shapes/cowboy_http.erl")),
    (
        "cowboy_stream_h",
        include_str!("../fixtures/shapes/cowboy_stream_h.erl"),
    ),
];

const ELIXIR: [(&str, &str); 4] = [
    (
        "thousand_island",
        include_str!("../fixtures/shapes/thousand_island.ex"),
    ),
    ("phoenix", include_str!("../fixtures/shapes/phoenix.ex")),
    ("bandit", include_str!("../fixtures/shapes/bandit.ex")),
    (
        "db_connection",
        include_str!("../fixtures/shapes/db_connection.ex"),
    ),
];

/// A running shop with all the shapes in it.
#[derive(Debug)]
pub struct Shapes {
    shop: Shop,
    /// The port that ranch and Cowboy serve.
    pub ranch: u16,
    /// The port that ThousandIsland and Bandit serve.
    pub island: u16,
}

impl Shapes {
    /// The release with the user's code in the version `code`.
    pub fn release(otp: Otp, code: &str) -> Release {
        Self::with(otp, &Self::web(code), &[])
    }

    /// The user's code in the version `code`.
    pub fn web(code: &str) -> String {
        include_str!("../fixtures/shapes/web.ex").replace("TAG", code)
    }

    /// A release with this source as the user's code, and with each `(from, to)` replaced in the library code.
    pub fn with(otp: Otp, web: &str, library: &[(&str, &str)]) -> Release {
        let mut base = Release::shop(otp, "v1").variant();
        for (module, source) in ERLANG {
            base = base.erlang(module, source);
        }
        for (name, source) in ELIXIR {
            let source = library
                .iter()
                .fold(source.to_owned(), |source, (from, to)| source.replace(from, to));
            base = base.elixir(name, &source);
        }
        base.erlang("killer", include_str!("../fixtures/killer/killer.erl"))
            .build()
            .variant()
            .elixir("web", web)
            .build()
    }

    /// Starts it: three acceptors each, no connection yet.
    pub fn start(release: &Release) -> Self {
        let shop = Shop::of(release).carts(10).pool(10).start();
        let (ranch, island) = (free_port(), free_port());
        shop.probe().eval(&format!(
            "Ebin = filename:dirname(code:where_is_file(\"shop.app\")),
             [{{module, M}} = code:load_file(M) || F <- filelib:wildcard(filename:join(Ebin, \"*.beam\")),
                  M <- [list_to_atom(filename:basename(F, \".beam\"))], code:is_loaded(M) =:= false],
             strays:open(),
             ranch:start(),
             {{ok, _}} = ranch:start_listener(web, {ranch}, 3, cowboy_clear),
             Alone = fun({{ok, Pid}}) -> unlink(Pid), Pid end,
             register(island, Alone('Elixir.ThousandIsland':start_link(#{{port => {island}, num_acceptors => 3, supervisor_options => [],
                 handler_module => 'Elixir.Bandit.DelegatingHandler', handler_options => []}}))),
             Alone('Elixir.Phoenix.Socket.PoolSupervisor':start_link('Elixir.Web.UserSocket')),
             register(clock, Alone('Elixir.Bandit.Clock':start_link([]))),
             Alone('Elixir.DBConnection.ConnectionPool':start_link('Elixir.Web.Pool')),
             ok."
        ));
        let shapes = Self { shop, ranch, island };
        shapes.opens();
        shapes
    }

    /// Both ports, with a name for messages.
    pub fn ports(&self) -> [(&'static str, u16); 2] {
        [("ranch", self.ranch), ("island", self.island)]
    }

    /// Waits until both listeners take connections and answer.
    ///
    /// # Panics
    /// If they do not.
    pub fn opens(&self) {
        for (name, port) in self.ports() {
            wait_until(&format!("{name} takes connections"), OPENS, || {
                get(port, "/").is_ok()
            });
        }
    }

    /// The state of every LiveView and channel, as text, ordered.
    pub fn pages(&self) -> Vec<String> {
        let states = self.probe().json(
            "lists:sort([unicode:characters_to_binary(io_lib:format(\"~0tp\", [{K, case sys:get_state(P) of
                  #{socket := #{assigns := A}} -> lists:sort(maps:to_list(maps:without(['__changed__'], A)));
                  #{assigns := A} -> maps:to_list(A);
                  Other -> Other
              end}]))
              || P <- processes(), {_, D} <- [process_info(P, dictionary)], {_, {K, F, 3}} <- [lists:keyfind('$initial_call', 1, D)],
                 F =:= mount orelse F =:= join, K =/= 'Elixir.Web.Mounter']).",
        );
        let states = states.as_array().expect("an array");
        states
            .iter()
            .map(|state| state.as_str().expect("a text").to_owned())
            .collect()
    }

    /// What reached a process that nothing of flyhot's may reach, each as text.
    pub fn strays(&self) -> String {
        self.probe().eval("strays:all().")
    }
}

impl Deref for Shapes {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.shop
    }
}

/// A port that nobody has, and that no system hands out by itself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Test processes that run beside each other begin apart.
    let first = (std::process::id() as u16).wrapping_mul(37) % span;
    loop {
        let port = PORTS.start + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// A connection that stays.
#[derive(Debug)]
pub struct Line(TcpStream);

impl Line {
    /// Connects.
    ///
    /// # Errors
    /// What the network says: refused, where nothing listens.
    pub fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self(stream))
    }

    /// A connection that became a WebSocket, by a request for `path`.
    ///
    /// # Panics
    /// If it does not.
    pub fn web_socket(port: u16, path: &str) -> Self {
        let mut line = Self::open(port).expect("it takes connections");
        line.send(&format!("GET {path} HTTP/1.1\r\n\r\n"))
            .expect("it reads");
        let answer = line.until("\r\n\r\n").expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        line
    }

    /// Says a line, and reads one.
    ///
    /// # Errors
    /// The connection was closed, or nothing came.
    pub fn say(&mut self, line: &str) -> std::io::Result<String> {
        self.send(&format!("{line}\n"))?;
        Ok(self.until("\n")?.trim_end().to_owned())
    }

    /// The body that a request is answered with.
    ///
    /// # Errors
    /// The connection was closed, or nothing came.
    pub fn get(&mut self, path: &str) -> std::io::Result<String> {
        self.ask(path)?;
        self.answer()
    }

    /// Sends a request and does not wait.
    ///
    /// # Errors
    /// The connection was closed.
    pub fn ask(&mut self, path: &str) -> std::io::Result<()> {
        self.send(&format!("GET {path} HTTP/1.1\r\n\r\n"))
    }

    /// The body of the answer to the request before.
    ///
    /// # Errors
    /// The connection was closed, or nothing came.
    pub fn answer(&mut self) -> std::io::Result<String> {
        let head = self.until("\r\n\r\n")?;
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.trim_end().parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn send(&mut self, text: &str) -> std::io::Result<()> {
        self.0.write_all(text.as_bytes())
    }

    fn until(&mut self, end: &str) -> std::io::Result<String> {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            read.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&read).into_owned())
    }
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    Line::open(port)?.get(path)
}

/// When a client was answered and what, or why not.
pub type Visit = (Instant, Result<String, String>);

/// Clients that come all the time, each with a connection of its own for one request.
pub struct Comers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Visit>>>,
}

impl Comers {
    /// `clients` that ask for `path` on `port`, again at once, or `pause` after they were refused.
    pub fn start(port: u16, path: &'static str, clients: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let mut came = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let answer = Line::open(port)
                            .map_err(|_| "refused".to_owned())
                            .and_then(|mut line| line.get(path).map_err(|error| error.to_string()));
                        let refused = answer.is_err();
                        came.push((Instant::now(), answer));
                        if refused {
                            std::thread::sleep(pause);
                        }
                    }
                    came
                })
            })
            .collect();
        Self { stop, threads }
    }

    /// Ends them: when each was answered and what, or why not; in order.
    pub fn stop(self) -> Vec<Visit> {
        self.stop.store(true, Ordering::Relaxed);
        let mut came: Vec<_> = self
            .threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a client does not panic"))
            .collect();
        came.sort_by_key(|(at, _)| *at);
        came
    }
}
