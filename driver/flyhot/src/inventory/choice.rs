//! Which of the nodes on a machine is the one of the release. This file is pure.

/// What names of nodes begin with that people and scripts start beside a release, for as long as they ask it something: `bin/NAME rpc`
/// and `remote` of Mix, and the consoles and tools of relx.
const TOOLS: [&str; 5] = ["rpc-", "rem-", "remsh", "maint", "longname"];

/// Why nobody can say which node is meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// Only tools are there.
    None,
    /// Several are there that are no tools.
    Several(Vec<String>),
}

/// The node that is meant, of those that are registered on a machine: the only one that is no tool. Of several, the one that is named
/// as the release or the app is; else the only one whose name begins so. The names that are known are tried in order.
pub(crate) fn choose<'a>(registered: &[&'a str], known: &[&str]) -> Result<&'a str, Unclear> {
    let is_tool = |name: &&str| {
        // An app may be called as tools are, and its nodes are not.
        TOOLS.iter().any(|tool| name.starts_with(tool)) && !known.iter().any(|known| name.starts_with(known))
    };
    let nodes: Vec<&str> = registered.iter().filter(|name| !is_tool(name)).copied().collect();
    match nodes[..] {
        [] => return Err(Unclear::None),
        [only] => return Ok(only),
        _ => {}
    }
    for known in known {
        if let Some(same) = nodes.iter().find(|name| *name == known) {
            return Ok(same);
        }
        let mut beginning = nodes.iter().filter(|name| name.starts_with(known));
        if let (Some(only), None) = (beginning.next(), beginning.next()) {
            return Ok(only);
        }
    }
    Err(Unclear::Several(nodes.into_iter().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_of_the_release_is_told_from_others() {
        let several = |names: &[&str]| {
            Err(Unclear::Several(
                names.iter().map(|name| (*name).to_owned()).collect(),
            ))
        };
        let known = ["till", "shop"];
        let table: [(&[&str], Result<&str, Unclear>); 11] = [
            (&["shop"], Ok("shop")),
            // Whatever it is called.
            (&["web"], Ok("web")),
            (
                &["shop-01H3ANTSW6XD3ZGHKCG3PPZ2MF"],
                Ok("shop-01H3ANTSW6XD3ZGHKCG3PPZ2MF"),
            ),
            (&["rpc-1f2a-shop", "shop", "rem-9c-shop"], Ok("shop")),
            (
                &["remsh12-shop", "longname3-shop", "maint4-shop", "shop"],
                Ok("shop"),
            ),
            (&["exporter", "shop-01H3"], Ok("shop-01H3")),
            (&["shop_worker", "shop"], Ok("shop")),
            // The release is known better than the app.
            (&["shop", "till-01H3"], Ok("till-01H3")),
            (&["shop-1", "shop-2"], several(&["shop-1", "shop-2"])),
            (&["a", "b", "rpc-1-a"], several(&["a", "b"])),
            (&["rpc-1f2a-shop"], Err(Unclear::None)),
        ];
        for (registered, node) in table {
            assert_eq!(choose(registered, &known), node, "{registered:?}");
        }
        assert_eq!(choose(&[], &known), Err(Unclear::None));
        let known = ["rpc_gateway", "rpc-gateway"];
        for registered in [
            &["rpc-gateway-01H3"][..],
            &["rpc-1f2a-rpc-gateway-01H3", "rpc-gateway-01H3"],
        ] {
            assert_eq!(
                choose(registered, &known),
                Ok("rpc-gateway-01H3"),
                "{registered:?}"
            );
        }
    }
}
