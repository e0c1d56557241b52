//! Which arguments of the functions that a rehearsal may run are called by them.
//!
//! Taken from the specs of OTP 25, 27 and 29 and their Elixir, and from their code where a function has none. Not in it,
//! since nobody keeps anything else there: the algorithm in a state of `rand`, the function that stands for a set of
//! `sofs`, and the modules of structs, calendars and protocols.

/// By module: the argument, counted from 0, the arity, and the functions of which both are true.
type Table = &'static [(&'static str, &'static [(u32, u32, &'static [&'static str])])];

#[rustfmt::skip]
const FUNS: Table = &[
    ("array", &[
        (0, 2, &["from", "map", "sparse_map"]),
        (0, 3, &[
            "foldl", "foldr", "from", "mapfoldl", "mapfoldr", "sparse_foldl", "sparse_foldr", "sparse_mapfoldl",
            "sparse_mapfoldr",
        ]),
        (2, 5, &[
            "foldl", "foldr", "mapfoldl", "mapfoldr", "sparse_foldl", "sparse_foldr", "sparse_mapfoldl",
            "sparse_mapfoldr",
        ]),
    ]),
    ("binary", &[
        (2, 3, &["replace"]),
        (2, 4, &["replace"]),
    ]),
    ("dict", &[
        (0, 2, &["filter", "map"]),
        (0, 3, &["fold", "merge"]),
        (1, 3, &["update"]),
        (1, 4, &["update"]),
    ]),
    ("gb_sets", &[
        (0, 2, &["filter", "filtermap", "map"]),
        (0, 3, &["fold"]),
    ]),
    ("gb_trees", &[
        (0, 2, &["map"]),
    ]),
    ("lists", &[
        (0, 2, &[
            "all", "any", "dropwhile", "filter", "filtermap", "flatmap", "foreach", "map", "partition", "search",
            "sort", "splitwith", "takewhile", "uniq", "usort", "zf",
        ]),
        (0, 3, &[
            "foldl", "foldr", "keymap", "mapfoldl", "mapfoldr", "merge", "rmerge", "rumerge", "umerge", "zipwith",
        ]),
        (0, 4, &["zipwith", "zipwith3"]),
        (0, 5, &["zipwith3"]),
    ]),
    ("logger", &[
        (0, 2, &["alert", "critical", "debug", "emergency", "error", "info", "notice", "warning"]),
        (0, 3, &["alert", "critical", "debug", "emergency", "error", "info", "notice", "warning"]),
        (1, 3, &["log"]),
        (1, 4, &["log"]),
        (2, 4, &["macro_log"]),
        (2, 5, &["macro_log"]),
    ]),
    ("maps", &[
        (0, 2, &["filter", "filtermap", "foreach", "groups_from_list", "map"]),
        (0, 3, &["fold", "groups_from_list", "intersect_with", "merge_with"]),
        (1, 3, &["groups_from_list", "update_with"]),
        (1, 4, &["update_with"]),
    ]),
    ("orddict", &[
        (0, 2, &["filter", "map"]),
        (0, 3, &["fold", "merge"]),
        (1, 3, &["update"]),
        (1, 4, &["update"]),
    ]),
    ("ordsets", &[
        (0, 2, &["filter", "filtermap", "map"]),
        (0, 3, &["fold"]),
    ]),
    ("queue", &[
        (0, 2, &["all", "any", "delete_with", "delete_with_r", "filter", "filtermap"]),
        (0, 3, &["fold"]),
    ]),
    ("re", &[
        (2, 3, &["replace"]),
        (2, 4, &["replace"]),
    ]),
    ("sets", &[
        (0, 2, &["filter", "filtermap", "map"]),
        (0, 3, &["fold"]),
    ]),
    ("sofs", &[
        (0, 2, &[
            "family_projection", "family_specification", "partition", "partition_family", "projection",
            "specification", "substitution",
        ]),
        (0, 3, &["drestriction", "partition", "restriction"]),
    ]),
    ("Elixir.Access", &[
        (0, 1, &["filter", "find"]),
        (2, 3, &["get_and_update"]),
    ]),
    ("Elixir.Enum", &[
        (1, 2, &[
            "all?", "any?", "chunk_by", "count", "dedup_by", "drop_while", "each", "filter", "find", "find_index",
            "find_value", "flat_map", "frequencies_by", "group_by", "map", "map_join", "max_by", "min_by",
            "min_max_by", "partition", "product_by", "reduce", "reject", "scan", "sort_by", "split_while",
            "split_with", "sum_by", "take_while", "uniq", "uniq_by", "with_index", "zip_with",
        ]),
        (1, 3, &["count_until", "filter_map", "group_by", "max_by", "min_by", "min_max_by", "sort_by"]),
        (1, 4, &["max_by", "min_by", "min_max_by"]),
        (2, 3, &[
            "filter_map", "find", "find_value", "flat_map_reduce", "group_by", "into", "map_every",
            "map_intersperse", "map_join", "map_reduce", "reduce", "reduce_while", "scan", "zip_reduce",
            "zip_with",
        ]),
        (2, 4, &["chunk_while"]),
        (3, 4, &["chunk_while", "zip_reduce"]),
    ]),
    ("Elixir.Inspect.Algebra", &[
        (1, 2, &["fold", "fold_doc"]),
        (4, 5, &["container_doc", "container_doc_with_opts", "surround_many"]),
        (4, 6, &["container_doc", "container_doc_with_opts", "surround_many"]),
    ]),
    ("Elixir.Kernel", &[
        (2, 3, &["update_in"]),
    ]),
    ("Elixir.Keyword", &[
        (1, 2, &["filter", "map", "new", "reject", "split_with"]),
        (2, 3, &[
            "get_and_update", "get_and_update!", "get_lazy", "intersect", "merge", "pop_lazy", "put_new_lazy",
            "replace_lazy", "update!",
        ]),
        (3, 4, &["update"]),
    ]),
    ("Elixir.List", &[
        (2, 3, &["foldl", "foldr", "myers_difference", "update_at"]),
    ]),
    ("Elixir.Logger", &[
        (1, 2, &["bare_log"]),
        (1, 3, &["bare_log"]),
        (1, 4, &["__do_log__"]),
    ]),
    ("Elixir.Map", &[
        (1, 2, &["filter", "map", "new", "reject", "split_with"]),
        (2, 3, &[
            "get_and_update", "get_and_update!", "get_lazy", "intersect", "merge", "pop_lazy", "put_new_lazy",
            "replace_lazy", "update!",
        ]),
        (3, 4, &["update"]),
    ]),
    ("Elixir.MapSet", &[
        (1, 2, &["filter", "new", "reject", "split_with"]),
    ]),
    ("Elixir.Regex", &[
        (2, 3, &["replace"]),
        (2, 4, &["replace"]),
    ]),
    ("Elixir.String", &[
        (2, 3, &["replace"]),
        (2, 4, &["replace"]),
    ]),
    ("Elixir.URI", &[
        (1, 2, &["encode"]),
    ]),
];

#[rustfmt::skip]
const INSIDE: Table = &[
    ("maps", &[
        (1, 2, &["iterator"]),
    ]),
    ("Elixir.Calendar", &[
        (2, 3, &["strftime"]),
    ]),
    ("Elixir.Enum", &[
        (1, 2, &["max", "min", "min_max", "sort"]),
        (1, 3, &["max", "min", "min_max"]),
        (2, 3, &["max", "max_by", "min", "min_by", "min_max", "min_max_by", "sort_by"]),
        (2, 4, &["max_by", "min_by", "min_max_by"]),
        (3, 4, &["max_by", "min_by", "min_max_by"]),
    ]),
    ("Elixir.Kernel", &[
        (1, 2, &["get_in", "inspect", "pop_in"]),
        (1, 3, &["put_in", "update_in"]),
    ]),
    ("Elixir.List", &[
        (2, 3, &["keysort"]),
    ]),
];

/// The arguments that a function calls where they are funs.
pub(super) fn called(module: &str, function: &str, arity: u32) -> impl Iterator<Item = u32> {
    arguments(FUNS, module, function, arity)
}

/// The arguments in which a function finds funs or names of modules to call: paths, orders, options.
pub(super) fn looked_into(module: &str, function: &str, arity: u32) -> impl Iterator<Item = u32> {
    arguments(INSIDE, module, function, arity)
}

fn arguments(table: Table, module: &str, function: &str, arity: u32) -> impl Iterator<Item = u32> {
    (table.iter().filter(move |(name, _)| *name == module))
        .flat_map(|(_, groups)| *groups)
        .filter(move |(_, of, functions)| *of == arity && functions.contains(&function))
        .map(|(argument, _, _)| *argument)
}
