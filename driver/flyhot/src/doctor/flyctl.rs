//! flyctl on this machine, and where the token comes from.

use super::{Check, not_well, well};
use crate::errors;
use crate::options::{self, Environment};
use crate::run::apart;

/// Whether flyctl is there, and whether anybody has a token; where nodes were `found` by one somebody has.
pub(super) async fn checks(environment: &Environment, found: bool) -> [Check; 2] {
    [program(environment).await, login(environment, found).await]
}

async fn program(environment: &Environment) -> Check {
    let path = environment.path.clone();
    match apart(move || Ok(options::flyctl_version(path.as_deref()))).await {
        Ok(Ok(version)) => well("flyctl", version),
        Ok(Err(why)) => not_well(
            "flyctl",
            why,
            "Install it (https://fly.io/docs/flyctl/install/): `flyhot deploy` has it build the image and give the token, and does \
             without where --image and FLY_API_TOKEN are given.",
        ),
        Err(error) => not_well("flyctl", error.message, error.hint),
    }
}

/// What the token is good for is seen where it is used.
async fn login(environment: &Environment, found: bool) -> Check {
    if let Some((name, _)) = &environment.fly_token {
        return well("login", format!("not needed: {name} is set"));
    }
    let environment = environment.clone();
    let ask = move || match options::token(&environment) {
        Ok(_) => Ok(()),
        Err(error) => Err(errors::options(&error.into())),
    };
    let asked = if found { Ok(()) } else { apart(ask).await };
    match asked {
        Ok(()) => well("login", "flyctl gives a token"),
        Err(error) => not_well("login", error.message, error.hint),
    }
}
