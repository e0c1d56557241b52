//! A shop whose pool does with its states what the environment of its application says: of one node, while it runs.

use crate::otp::Otp;
use crate::release::Release;

/// A shop whose pool keeps its numbers under this word. Where `takes_only` is another one its code_change fails, and with `takes_ms` it
/// takes so long: neither can be known before.
pub fn with_pool(code: &str, word: &str) -> Release {
    let source = format!(
        "-module(pool_worker).
         -behaviour(gen_server).
         -export([start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).
         start_link(N) -> gen_server:start_link({{local, list_to_atom(\"pool_\" ++ integer_to_list(N))}}, ?MODULE, N, []).
         init(N) -> {{ok, {{{word}, N, 0}}}}.
         handle_call(version, _From, State) -> {{reply, {word}, State}}.
         handle_cast(bump, {{Tag, N, Casts}}) -> {{noreply, {{Tag, N, Casts + 1}}}}.
         handle_info(_, State) -> {{noreply, State}}.
         code_change(_, {{_, N, Casts}}, _) ->
             {word} = application:get_env(shop, takes_only, {word}),
             receive after application:get_env(shop, takes_ms, 0) -> ok end,
             {{ok, {{{word}, N, Casts}}}}.\n"
    );
    Release::shop(Otp::under_test(), code)
        .variant()
        .erlang("pool_worker", &source)
        .build()
}
