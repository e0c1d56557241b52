//! An app on the Fly of the tests: the shop as machines, each with a network, an epmd and a copy of the image of its own, distributed by
//! the lines that Fly.io's guide has for rel/env.sh.eex.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fly::{Fly, FlyIlls, Namespaces};
use crate::flyhot::Flyhot;
use crate::release::Release;
use crate::rounds::Random;
use crate::scratch::Scratch;
use crate::variant::copy;
use crate::wait::wait_or_tell;

/// Where the Machines API is in the network of the machines, as on Fly's own.
const API: u16 = 4280;

/// Where each shop listens on its machine.
const SHOP: u16 = 4000;

/// A release boots in two to three seconds alone on the machine; tests run beside each other.
const BOOT: Duration = Duration::from_secs(90);

/// What brings a release into the private network.
const DISTRIBUTED: &str = r#"
export RELEASE_DISTRIBUTION="${RELEASE_DISTRIBUTION_OF_TEST:-name}"
export RELEASE_NODE="${RELEASE_NODE_OF_TEST:-${FLY_APP_NAME}-${FLY_IMAGE_REF##*-}@${FLY_PRIVATE_IP}}"
export ERL_AFLAGS="${ERL_AFLAGS_OF_TEST:--proto_dist inet6_tcp} -start_epmd false"
"#;

/// An epmd that ends with its machine, and the release.
const INIT: &str = "export HOME=$PWD LC_ALL=C.UTF-8
setpriv --pdeathsig KILL -- app/erts-*/bin/epmd &
exec app/bin/shop start";

/// Asks the shop for its version, and no longer for more once that has come: the shop keeps connections open.
const HEALTH: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$port || exit
printf 'GET /health HTTP/1.1\r\nHost: shop\r\n\r\n' >&3
while read -r -t 5 line <&3; do
    line=${line%$'\r'}
    case $line in
        [Cc]ontent-[Ll]ength:*) length=${line#*: } ;;
        '') break ;;
    esac
done
head -c "$length" <&3
"#;

/// The app, its API and its network.
#[derive(Debug)]
pub struct Machines {
    /// The API.
    pub fly: Fly,
    network: Namespaces,
    images: Scratch,
}

impl Machines {
    /// Without any machine.
    pub fn start(name: &str) -> Self {
        let network = Namespaces::start();
        let ills = FlyIlls {
            limits: false,
            ..FlyIlls::default()
        };
        let fly = Fly::on(network.host(), ills, Random::new(name));
        network.offer(API, fly.address());
        Self {
            fly,
            network,
            images: Scratch::new("images"),
        }
    }

    /// An image with a release in it, with this cookie: its name.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn image(&self, tag: &str, release: &Release, cookie: &str) -> String {
        let root = self.images.path().join(tag);
        let app = root.join("app");
        fs::create_dir_all(&app).expect("our own directory");
        copy(release.directory(), &app);
        fs::write(app.join("releases/COOKIE"), cookie).expect("our own directory");
        let env = app.join("releases").join(release.version()).join("env.sh");
        let given = fs::read_to_string(&env).expect("Mix wrote it");
        fs::write(&env, given + DISTRIBUTED).expect("our own directory");
        let name = format!("registry.fly.io/{}:deployment-{tag}", Fly::APP);
        self.fly.push(&name, &root);
        name
    }

    /// A machine of that image, which runs the shop; more variables of its environment may change how.
    pub fn shop(&self, image: &str, group: &str, region: &str, more: &[(&str, &str)]) -> String {
        let mut env = json!({"SHOP_CARTS": "20", "SHOP_POOL": "5", "SHOP_PORT": SHOP.to_string()});
        for (name, value) in more {
            env[*name] = json!(value);
        }
        self.machine(image, group, region, &["sh", "-c", INIT], env)
    }

    /// A machine of that image, which runs something else.
    pub fn other(&self, image: &str, group: &str, region: &str) -> String {
        self.machine(image, group, region, &["sleep", "infinity"], json!({}))
    }

    fn machine(&self, image: &str, group: &str, region: &str, words: &[&str], env: Value) -> String {
        self.fly.make(&json!({"region": region, "config": {
            "image": image, "init": {"exec": words}, "env": env, "restart": {"policy": "no"},
            "metadata": {"fly_platform_version": "v2", "fly_process_group": group},
        }}))
    }

    /// Waits until the shop of a machine serves.
    pub fn serves(&self, id: &str) {
        wait_or_tell(
            &format!("the shop of {id} serves"),
            BOOT,
            // Looked at first, since it costs no process.
            || self.log(id).contains("listening") && self.asked(id).is_some(),
            || self.log(id),
        );
    }

    /// What a machine wrote since it was started.
    fn log(&self, id: &str) -> String {
        fs::read_to_string(self.fly.root(id).with_extension("log")).unwrap_or_default()
    }

    /// The version that the shop of a machine says it is.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn version(&self, id: &str) -> String {
        self.asked(id)
            .unwrap_or_else(|| panic!("the shop of {id} does not answer"))
    }

    fn asked(&self, id: &str) -> Option<String> {
        let script = format!("port={SHOP}\n{HEALTH}");
        let answer = self.fly.run(id, &["bash", "-c", &script])?;
        let json: Value = serde_json::from_str(answer.trim()).ok()?;
        json["version"].as_str().map(str::to_owned)
    }

    /// `flyhot …` in the network of the machines, with what somebody has who may do everything with the app.
    pub fn flyhot<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Flyhot {
        Flyhot::new(words)
            .beside(&self.network)
            .env(
                "FLY_FLAPS_BASE_URL",
                &format!("http://[{}]:{API}", Namespaces::SERVICES),
            )
            .env("FLY_API_TOKEN", Fly::TOKEN)
            .env("FLY_APP_NAME", Fly::APP)
            // A machine of the tests has no file system of its own, but begins in its root.
            .env("RELEASE_ROOT", "app")
    }

    /// `flyhot rollout --inventory fly`, with a store in that directory.
    ///
    /// # Panics
    /// If a path is no text.
    pub fn rollout(&self, release: &Release, store: &Path) -> Flyhot {
        let release = release.directory().to_str().expect("our own");
        self.flyhot(["rollout", "--inventory", "fly", "--release", release])
            .args(["--store", store.to_str().expect("our own"), "--output", "json"])
    }
}
