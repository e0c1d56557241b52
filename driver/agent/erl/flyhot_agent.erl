%% The Erlang half of flyhot: one module, handed to a node for the time of the work and unloaded afterwards.
%%
%% It decides nothing that the script leaves open, reads no configuration, opens no file but those it is told to
%% write, never logs, never touches persistent_term, starts nothing but its worker and its guard (and helpers with a
%% deadline that run a code_change or a template on a copy of a state, ask a listener or have the logger take something in),
%% and leaves no fun of its own in a state: what other processes run of it they run once, inside sys, which keeps the state
%% when a fun's module is gone. While a node is watched, whoever logs an error counts it by seen/2.
%%
%% Worker: performs the commands, one at a time. Guard: knows every process before it is suspended, and thaws or
%% finishes when the worker ends early. docs/upgrade.md has the window in prose; driver/agent/src/terms.rs is the one home of the terms.
-module(flyhot_agent).

-export([start/1, call/1, evict/1, holder/0]).
-export([worker/2, guard/3]).
%% Run inside other processes by sys:replace_state.
-export([restore/1, restore_handler/1, drop/1, mark/1, unmark/1]).
%% Run in a helper process of its own.
-export([rehearse_apart/6]).
%% Run by whoever logs, while a node is watched.
-export([seen/2]).

%% Keys this module uses in process dictionaries. The first two are in other processes, inside the window only.
-define(STASH, '$flyhot_stash').
-define(MARK, '$flyhot_mark').
-define(STEP, '$flyhot_step').
-define(HOLDER, '$flyhot_holder').
-define(DRIVER, '$flyhot_driver').
-define(WATCH, '$flyhot_watch').

%% How long a finished window's result waits for a driver that is gone: long enough for a person to start the
%% command again, short enough that the agent does not stay on a node for good.
-define(RESULT_TTL_MS, 30000).
%% An idle worker asked to give way answers at once; this is a scheduler's bad second.
-define(YIELD_MS, 1000).
%% A driver that is there answers within a round trip. One that is silent for twice this long, and of whose line nothing moves in the
%% second half, stands still or is lost.
-define(THERE_MS, 2500).
%% Faults and stragglers are named up to this many; the counts say the rest. Twenty lines are what a person reads.
-define(NAMED, 20).
%% A manager answers from the head of its mailbox; one that is busy for longer is asked again before the window.
-define(HANDLERS_MS, 500).
%% Above this size a file below priv is told by its size: each is read whole.
-define(LARGE, (16 bsl 20)).
%% Supervisors answer which_children at once unless they are starting a child; a start may take as long as a call waits
%% by default.
-define(SPECS_MS, 5000).
%% An idle code server answers within microseconds; one that loads a large module takes tens of milliseconds.
-define(CODE_SERVER_MS, 200).
%% Processes sampled for the way back: at 5 us each (current_stacktrace) 25 ms outside any freeze.
-define(SAMPLE, 5000).
%% Terms looked at for funs inside one live process: 30 to 45 ms of one whose state is that large, as long as a
%% code_change takes that walks it; measured 30 to 45 ns each (OTP 25).
-define(PROCESS_TERMS, 1000000).
%% Messages copied out of one queue: a few megabytes at the worst, and no more than a process looks at in a millisecond.
-define(QUEUE, 1000).
%% Memory up to which a process is had to print its stack, bytes: 30 ms of its time at the worst (measured).
-define(STACK, 1000000).
%% One that serves somebody may wait again a millisecond later.
-define(LOOKS, 3).
%% The same in one table, persistent term or environment, where nobody waits: a quarter of a second for the largest.
-define(TABLE_TERMS, 5000000).
%% Each look at a hibernated process wakes it for a full collection: so many of one kind stand for all.
-define(HIBERNATED, 20).
%% Processes of each kind that are looked at before any kind is looked at whole.
-define(FIRST, 100).
%% Processes looked at between two rests of the census: one to two milliseconds (measured 10 us each).
-define(SLICE, 100).
%% Processes asked for their funs before the time is looked at again, and how long the busy ones of these are waited for.
-define(BATCH, 1000).
-define(BATCH_MS, 50).
%% Silence after which the freeze looks for a cycle of calls (measured: window-facts B1).
-define(QUIET_MS, 1).
%% The freeze may hold back callees this often (measured: converged in at most 3).
-define(ROUNDS, 4).
%% Children that are born outside what can be frozen, a second: the last look and the swap take one to five milliseconds, tens
%% of them among a hundred thousand processes, so that of these one is born in it in one of twenty windows at the worst.
-define(BIRTHS, 10).
%% One code_change that runs apart may take this long; the window's default budget is twice that.
-define(APART_MS, 1000).
%% A process proven must come back within this; it runs a main loop once, which takes microseconds. Counted in turns of
%% the worker of a millisecond each, not by the clock: where the machine stands still, or has more to run than it can,
%% neither has had its turn.
-define(PROVE_MS, 500).
%% After so many of them it is looked at whether it waits for somebody who is frozen.
-define(LOOK_TURNS, 20).
%% Who waits for answers looks at least every 16 ms; three times that is a scheduler's bad moment.
-define(PAUSE_US, 50000).
%% A resume is answered from the head of a mailbox by an idle process.
-define(THAW_MS, 2000).
%% One that has not answered its resume by then holds up nobody behind it, and is asked again: a large heap that was hibernated
%% takes some ten milliseconds to come back, and on OTP 27 a process that hibernates can sleep on over a message
%% (erlang/otp issue 10651) until the next one wakes it.
-define(SILENT_MS, 100).
%% Reductions in that time that show a worker at work: one that is stuck in a call spends none, and whatever else it
%% waits for has a deadline of its own.
-define(PROGRESS, 1000).
%% A page renders in a tenth of a millisecond (measured, phoenix-facts 3.4); one that takes this long waits for somebody,
%% who may be frozen. All views together may take four times that: they are frozen meanwhile.
-define(RENDER_MS, 250).
-define(RENDERS_MS, 1000).
%% A listener ends or starts its acceptors within milliseconds, a hundred of them too; one that needs as long as a thaw
%% may hangs.
-define(ENTRY_MS, 2000).
%% What a module says of itself it says at once; one that waits for somebody says nothing worth waiting for.
-define(CALLBACK_MS, 500).
%% Between two tries to open a port again that something else holds for a moment.
-define(ENTRY_PAUSE_MS, 50).
%% A driver that has had the entry paused asks again within half a second; one that says nothing for so long has stopped
%% without its connection breaking, and a node that takes no connections must not wait for the tick that finds out.
-define(ENTRY_IDLE_MS, 5000).
%% A supervisor that gives up sends all its children their exit at once; those that trap exits may take longer.
-define(AFTERMATH_MS, 200).
%% The worker's heap from the start, words: 8 MB, so that a window of ten thousand processes is not spent collecting
%% garbage (measured: a fifth less time).
-define(HEAP, 1000000).
%% Text of one Erlang term in a report, characters: a line and a half of a terminal.
-define(TEXT, 300).
%% The name of the counter among the filters of the node's logger, and its places.
-define(COUNTER, flyhot_gate).
-define(ERRORS, 1).
-define(CRASHES, 2).
-define(RESTARTS, 3).
-define(UNDEF, 4).
-define(BADFUN, 5).
-define(FUNCTION_CLAUSE, 6).
%% The logger takes a filter in within microseconds; it also writes what the emulator logs, to a terminal that may hang.
-define(LOGGER_MS, 2000).
%% Whoever was called away inside seen/2 has had its turn again by then: 25 turns on a scheduler with forty others.
-define(COUNTING_MS, 100).
%% Between two looks whether nobody is inside the agent any more, and how many there are: for ten minutes, beyond any code_change.
-define(PURGE_MS, 100).
-define(PURGES, 6000).
%% Between two looks at run queues and memory: each takes some ten microseconds. Of a watch that lasts for minutes no more than
%% so many are kept.
-define(SAMPLE_MS, 100).
-define(SAMPLES, 300).

%% The tests' own build has faults at these points and tells what it does; the shipped module has nothing of that.
-ifdef(FAULTS).
-define(AT(Point), strike(Point)).
-define(TELL(Event), tell(Event)).
-else.
-define(AT(Point), ok).
-define(TELL(Event), _ = Event).
-endif.

-record(kind, {id, behaviour, host, modules, plain, entry, pids = [], hib = [], n = 0, hibernated = 0, memory = 0,
               parents = #{}}).
%% What is asked of the processes of one kind in the window.
%% told: the module whose old vsn its code_change is told, where that is one for all.
%% view: the LiveView whose pages the processes are.
%% shown: whole | part, what sys hands out of their states.
-record(job, {behaviour, fate, how, host, told, mode = same, calls_back = true, view = none, shown = whole}).
%% entry: the listeners that are paused. looked: when all processes were listed last, us.
-record(s, {driver, pid, guard, gmon, dead, staged = #{}, kinds = #{}, by_key = #{}, seen = #{},
            sups = #{}, silent = [], rehearsals = #{}, new = undefined, old = [], orphan = false, result = undefined,
            hosts = #{}, entry = [], looked = 0}).
%% A window: targets are {Pid, KindId}.
-record(w, {pid, dead, guard, script, jobs, mods, vsns = #{}, new_vsns = #{}, old, new, limit, budget, revert, t0, deadline,
            targets = [], sups = [], frozen = [], longest = 0, faults = [], nfaults = 0, failed = #{}, died = #{},
            ended = #{}, stragglers = [], silent = [], unresumed = [], detail = <<>>, times = #{}, by = worker, swapped = false,
            born = #{}, modes = #{}, unproven = [], bereft = #{}, late = [], unproved = false, meanwhile = [],
            hosts = #{}, seen_by_world = false, unrendered = [], not_rendered = [], answered = #{},
            outliving}).

%% ---------------------------------------------------------------------------------------------------------------
%% Called by the driver, each in a process of rex
%% ---------------------------------------------------------------------------------------------------------------

%% Opts: [{driver, node()}, {pid, pid()}, {holder, binary()}].
start(Opts) ->
    {Pid, Mon} = spawn_opt(?MODULE, worker, [self(), maps:from_list(Opts)],
                           [monitor, {min_heap_size, ?HEAP}, {max_heap_size, 0}]),
    receive
        {started, Pid, Answer} -> demonitor(Mon, [flush]), Answer;
        {'DOWN', Mon, process, _, Why} -> {error, {worker_died, text(Why)}}
    end.

call(Command) ->
    case whereis(?MODULE) of
        undefined -> {error, no_worker};
        Pid ->
            Mon = monitor(process, Pid),
            Pid ! {?MODULE, {self(), Mon}, Command},
            receive
                {Mon, Answer} -> demonitor(Mon, [flush]), Answer;
                {'DOWN', Mon, process, _, Why} when element(1, Command) =:= window ->
                    case from_guard() of
                        {error, no_worker} -> {error, {worker_died, text(Why)}};
                        Answer -> Answer
                    end;
                {'DOWN', Mon, process, _, Why} -> {error, {worker_died, text(Why)}}
            end
    end.

%% The guard of a worker that died has thawed or finished before it answers.
from_guard() ->
    case whereis(flyhot_guard) of
        undefined -> {error, no_worker};
        Pid ->
            Mon = monitor(process, Pid),
            Pid ! {result, {self(), Mon}},
            receive
                {Mon, Answer} -> demonitor(Mon, [flush]), Answer;
                {'DOWN', Mon, process, _, _} -> {error, no_worker}
            end
    end.

%% Makes room for Own: ok when nobody else works here any more, else {busy, Holder}, or {left, Holder} where that driver is gone: then
%% the agent leaves behind what it does.
evict(Own) ->
    case evict(flyhot_guard, Own, evict(?MODULE, Own, ok)) of
        ok -> count_no_more(), ok;
        Held -> Held
    end.

evict(Name, Own, ok) ->
    case whereis(Name) of
        undefined -> ok;
        Pid ->
            %% A guard that is through gives way to whoever asks, and may have a driver that is there.
            case Name =:= flyhot_guard andalso said(?DRIVER, Pid) =/= Own andalso held(Pid) of
                {busy, _} = Busy -> Busy;
                _ -> yields(Pid)
            end
    end;
evict(_, _, Held) -> Held.

yields(Pid) ->
    Mon = monitor(process, Pid),
    Pid ! {yield, {self(), Mon}},
    receive
        {Mon, busy} -> demonitor(Mon, [flush]), held(Pid);
        %% Purging copies takes as long as the slowest process of the node needs to be asked.
        {Mon, leaving} -> receive {'DOWN', Mon, process, _, _} -> ok end;
        {'DOWN', Mon, process, _, _} -> ok
    after ?YIELD_MS -> demonitor(Mon, [flush]), held(Pid)
    end.

held(Pid) ->
    Holder = holder(Pid),
    case said(?DRIVER, Pid) of
        %% It has just begun, or has just ended.
        undefined -> {busy, Holder};
        Driver ->
            %% Names of drivers are given out again: whoever has this one now may be another.
            case knows(Pid, Driver) of
                true -> {left, Holder};
                false ->
                    case is_there(Driver) of
                        true -> {busy, Holder};
                        false -> {left, Holder}
                    end
            end
    end.

knows(Pid, Driver) ->
    case process_info(Pid, messages) of
        {messages, Messages} -> lists:member({nodedown, Driver}, Messages);
        undefined -> false
    end.

%% The node itself may not notice for a quarter of an hour that a host is lost: whoever counts its ticks (dist_util) waits in a send
%% where something was under way to it. The line to one that is not there is cut. Over TLS that send is another process's.
is_there(Driver) ->
    case lists:keyfind(Driver, 1, erlang:system_info(dist_ctrl)) of
        {_, Port} when is_port(Port) ->
            case answers(Driver, Port) of
                true -> true;
                %% net_kernel would wait for it, and a port that is only told to end for what it has still to send.
                false -> exit(Port, kill), false
            end;
        {_, _} -> true;
        false -> false
    end.

%% A driver has no process of that name, and says so. Whoever asks may be held up by what is to be sent before it.
answers(Driver, Port) ->
    {Pid, Mon} = spawn_monitor(fun() ->
        Asked = monitor(process, {?MODULE, Driver}),
        receive {'DOWN', Asked, process, _, Why} -> exit(Why) end
    end),
    receive {'DOWN', Mon, process, _, Early} -> Early =:= noproc
    after ?THERE_MS ->
        Before = line(Port),
        receive {'DOWN', Mon, process, _, Late} -> Late =:= noproc
        after ?THERE_MS -> exit(Pid, kill), demonitor(Mon, [flush]), moves(Before, line(Port))
        end
    end.

%% Of a slow line the answer comes late: something comes from there all the while, or goes there.
moves({Came, Went}, {Comes, Goes}) -> Comes > Came orelse Goes > Went;
moves(_, _) -> false.

%% What came and what went, in bytes: what waits in the port was counted as sent.
line(Port) ->
    case inet:getstat(Port, [recv_oct, send_oct, send_pend]) of
        {ok, Stat} ->
            [Came, Sent, Waits] = [proplists:get_value(Of, Stat) || Of <- [recv_oct, send_oct, send_pend]],
            {Came, Sent - Waits};
        {error, _} -> closed
    end.

holder() -> holder(whereis(?MODULE)).

holder(Pid) -> case said(?HOLDER, Pid) of undefined -> <<>>; Holder -> Holder end.

said(_, undefined) -> undefined;
said(Key, Pid) ->
    case process_info(Pid, dictionary) of
        {dictionary, D} -> proplists:get_value(Key, D);
        undefined -> undefined
    end.

%% ---------------------------------------------------------------------------------------------------------------
%% Worker
%% ---------------------------------------------------------------------------------------------------------------

worker(Starter, #{driver := Driver, pid := DriverPid, holder := Holder}) ->
    %% The name is the mutex of the node: sys suspension is not counted, two tools would undo each other.
    try register(?MODULE, self()) of
        true ->
            case whereis(flyhot_guard) of
                undefined ->
                    put(?HOLDER, Holder),
                    put(?DRIVER, Driver),
                    put(?STEP, idle),
                    %% A node's own limit would end whoever has to thaw its processes.
                    {Guard, GMon} = spawn_opt(?MODULE, guard, [self(), Driver, Holder], [monitor, {max_heap_size, 0}]),
                    receive
                        {Guard, ready} ->
                            monitor_node(Driver, true),
                            Starter ! {started, self(), ok},
                            loop(#s{driver = Driver, pid = DriverPid, guard = Guard, gmon = GMon, dead = dead_pid()});
                        {'DOWN', GMon, process, _, Why} ->
                            Starter ! {started, self(), {error, {guard_died, text(Why)}}}
                    end;
                _ -> Starter ! {started, self(), {busy, Holder}}
            end
    catch
        error:badarg -> Starter ! {started, self(), {busy, holder()}}
    end.

loop(#s{gmon = GMon, driver = Driver} = S) ->
    receive
        {?MODULE, From, finish} ->
            {Still, S1} = entry_back(S),
            forget(),
            stop_guard(S1),
            answer(From, {ok, #{entry => Still}});
        {?MODULE, From, {window, Script}} ->
            %% A bug in here must not end with an answer while processes are suspended: the guard lets them go.
            {Answer, S1} = try window(maps:from_list(Script), S)
                           catch C:R:St -> exit({window, text({C, R, lists:sublist(St, 3)})})
                           end,
            put(?STEP, idle),
            answer(From, Answer),
            loop(S1);
        {?MODULE, From, Command} ->
            {Answer, S1} = try command(Command, S)
                           catch C:R:St -> {{error, {C, text({R, lists:sublist(St, 3)})}}, S}
                           end,
            put(?STEP, idle),
            answer(From, Answer),
            loop(S1);
        {yield, {Pid, _} = From} ->
            %% Whoever asked may have given up waiting: nobody would take the agent off the node then.
            case S#s.orphan andalso is_process_alive(Pid) of
                true -> answer(From, leaving), forget(), stop_guard(S);
                false -> answer(From, busy), loop(S)
            end;
        {nodedown, Driver} ->
            {_, S1} = entry_back(S),
            loop(S1#s{orphan = true});
        {'DOWN', GMon, process, _, _} ->
            %% Nothing is suspended between commands; without a guard there will be no more of them.
            entry_back(S),
            forget(),
            unload();
        _ -> loop(S)
    after idle_ms(S) ->
        case S of
            #s{orphan = true} -> forget(), stop_guard(S), unload();
            _ -> {_, S1} = entry_back(S), loop(S1)
        end
    end.

idle_ms(#s{orphan = true, result = undefined}) -> 0;
idle_ms(#s{orphan = true}) -> ?RESULT_TTL_MS;
idle_ms(#s{entry = []}) -> infinity;
idle_ms(_) -> ?ENTRY_IDLE_MS.

answer({Pid, Ref}, Answer) -> Pid ! {Ref, Answer}.

stop_guard(#s{guard = Guard, gmon = GMon}) ->
    Guard ! {stop, self()},
    receive {'DOWN', GMon, process, _, _} -> ok end.

%% Takes itself off the node when no driver is left to do it. A process of the node that is inside a function which it was handed
%% would end with a purge: it is waited for, by one that needs nothing of this module. Where it stays, or is inside what an agent
%% before this one left, whoever comes next waits as well.
unload() ->
    receive after ?COUNTING_MS -> ok end,
    case code:soft_purge(?MODULE) andalso code:delete(?MODULE) of
        true -> spawn(stdlib_fun(io_lib:format(
            "fun() ->
                 Purged = fun Purged(0) -> false;
                             Purged(N) -> code:soft_purge(~s) orelse (receive after ~b -> Purged(N - 1) end)
                          end,
                 Purged(~b)
             end.", [?MODULE, ?PURGE_MS, ?PURGES])));
        false -> ok
    end.

%% The counter out of the logger, and renamed copies out of the code server, whoever loaded them: nothing runs them by now.
forget() ->
    count_no_more(),
    [begin code:soft_purge(M), code:delete(M), code:soft_purge(M) end || {M, _} <- code:all_loaded(), is_copy(M)],
    ok.

is_copy(M) -> lists:prefix("flyhot$", atom_to_list(M)).

command(facts, S) -> step(facts, S, fun(S1) -> {facts_or_stopping(), S1} end);
command({census, Hosts}, S) -> step(census, S#s{hosts = maps:from_list(Hosts)}, fun census/1);
command({lacking, Funs}, S) -> {{ok, [{M, F} || {M, F} <- Funs, not callable(M, F)]}, S};
command({stage, Pieces}, S) -> step(stage, S, fun(S1) -> stage(Pieces, S1) end);
command({copies, Copies}, S) -> step(stage, S, fun(S1) -> copies(Copies, S1) end);
command({rehearse, Jobs, Down, Limit, Ms}, S) -> step(rehearse, S, fun(S1) -> rehearse_live(Jobs, Down, Limit, Ms, S1) end);
command({closures, Changed, Removed, Others, Ask, Limit, Ms}, S) ->
    step(closures, S, fun(S1) ->
        {Names, Unread} = names(Removed, Changed ++ Others),
        {{ok, (closures(Changed, Removed, Ask, Limit, Ms, S1))#{names => Names, unread => Unread}}, S1}
    end);
command({watch, Ms}, S) -> step(watch, S, fun(S1) -> {watch(Ms, S1#s.driver), S1} end);
command({drain, Mods, Ms, Kill}, S) -> step(drain, S, fun(S1) -> {{ok, drain(Mods, Ms, Kill)}, S1} end);
command({prepare, Mods}, S) -> step(prepare, S, fun(S1) -> prepare(Mods, S1) end);
command({way_back, Ids, Mods}, S) -> step(way_back, S, fun(S1) -> {{ok, way_back(Ids, Mods, S1)}, S1} end);
command({knock, Ids, Ms, Limit}, S) -> step(knock, S, fun(S1) -> {{ok, knock(Ids, Ms, Limit, S1)}, S1} end);
command(entry, S) -> step(entry, S, fun(S1) -> {Found, Not} = listeners(S1), {{ok, #{listeners => [listener_name(L) || L <- Found], not_paused => Not}}, S1} end);
command(pause, S) -> step(pause, S, fun pause/1);
command({disk, Mods}, S) -> {{ok, disk(Mods)}, S};
command({modules, Mods}, S) -> step(facts, S, fun(S1) -> {{ok, modules(Mods)}, S1} end);
command({private, Apps}, S) -> step(facts, S, fun(S1) -> {{ok, private(Apps)}, S1} end);
command({environment, Apps}, S) -> step(facts, S, fun(S1) -> {{ok, environment(Apps)}, S1} end);
command(restore_base, S) -> {{ok, restore_base()}, S};
command({note, Path, Key}, S) -> {{ok, jot(unicode:characters_to_list(Path), maps:get(Key, S#s.staged))}, S};
command({layout, Apps, Protocols, Name}, S) -> {{ok, layout(Apps, Protocols, binary_to_list(Name))}, S};
command({persist, Apps, Protocols, Name, Vsn, Files}, S) ->
    step(persist, S, fun(S1) -> {{ok, persist(Apps, Protocols, binary_to_list(Name), Vsn, Files, S1)}, S1} end);
command({remove, Removed, Swapped, Names, Builds, Limit, Ms}, S) ->
    step(remove, S, fun(S1) -> {{ok, remove(Removed, Swapped, Names, Builds, Limit, Ms, S1)}, S1} end);
command(Other, S) -> {{error, {unknown_command, text(Other)}}, S}.

step(Name, S, Fun) -> step(Name), Fun(S).

step(Name) -> put(?STEP, Name), ?AT(Name).

%% ---------------------------------------------------------------------------------------------------------------
%% Facts and census
%% ---------------------------------------------------------------------------------------------------------------

%% While the node shuts down, application_controller says so (seen with OTP 27 and 29) or says nothing (OTP 25), and nothing
%% while it waits for an application that it stops.
facts_or_stopping() ->
    try {ok, facts()} catch
        exit:terminating -> {error, stopping};
        exit:{timeout, {gen_server, call, [application_controller | _]}} -> {error, stopping}
    end.

facts() ->
    Loaded = code:all_loaded(),
    Apps = application:loaded_applications(),
    Running = [A || {A, _, _} <- application:which_applications(5000)],
    Root = release_root(),
    #{otp => bin(erlang:system_info(otp_release)), erts => bin(erlang:system_info(version)),
      elixir => case lists:keyfind(elixir, 1, Apps) of {_, _, V} -> bin(V); false -> none end,
      architecture => bin(erlang:system_info(system_architecture)), root_dir => bin(Root),
      embedded => code:get_mode() =:= embedded, configuration => configuration(Root), processes => erlang:system_info(process_count),
      memory_bytes => erlang:memory(total), free_bytes => free_bytes(),
      modules => [module_facts(M, F) || {M, F} <- Loaded, erlang:module_loaded(M)],
      applications => [{A, bin(V), dir(code:lib_dir(A)), lists:member(A, Running), start_module(A),
                        [bin(atom_to_list(K)) || {K, _} <- application:get_all_env(A), is_atom(K)]} || {A, _, V} <- Apps]}.

start_module(A) -> case application:get_key(A, mod) of {ok, {M, _}} -> M; _ -> undefined end.

%% One that takes OTP from the machine has another root directory than the code server's. The environment may be that of
%% another release, whose shell started this node: applications of this one lie below it.
release_root() ->
    Dirs = [D || {A, _, _} <- application:loaded_applications(), D <- [code:lib_dir(A)], is_list(D)],
    Is = fun(Root) -> is_list(Root) andalso filelib:is_dir(filename:join(Root, "releases"))
                          andalso lists:any(fun(D) -> is_below(D, Root) end, Dirs) end,
    case [Root || Root <- [os:getenv("RELEASE_ROOT"), os:getenv("RELEASE_ROOT_DIR")], Is(Root)] of
        [Root | _] -> Root;
        [] -> code:root_dir()
    end.

%% What the release was booted with, and only as digests: it may hold secrets.
configuration(Root) ->
    Version = case os:getenv("RELEASE_VSN") of false -> started_with(Root); V -> V end,
    [{list_to_binary(Name), erlang:md5(Bin)} || Name <- ["runtime.exs", "sys.config", "vm.args"],
                                                {ok, Bin} <- [file:read_file(filename:join([Root, "releases", Version, Name]))]].

module_facts(M, File) ->
    {M, M:module_info(md5), file_text(File), erlang:check_old_code(M), code:is_sticky(M),
     File =:= cover_compiled, struct_keys(M)}.

%% defstruct makes this function return a literal; one that somebody wrote may do anything and counts as unknown.
struct_keys(M) ->
    case exports(M, '__struct__', 0) andalso exports(M, '__struct__', 1) andalso (try M:'__struct__'() catch _:_ -> none end) of
        #{'__struct__' := M} = Struct -> [atom_to_binary(K) || K <- maps:keys(Struct), is_atom(K)];
        _ -> none
    end.

file_text(F) when is_list(F) -> bin(F);
file_text(_) -> <<>>.

dir({error, _}) -> <<>>;
dir(D) -> bin(D).

free_bytes() ->
    case file:read_file("/proc/meminfo") of
        {ok, Text} ->
            case re:run(Text, "MemAvailable:\\s+(\\d+) kB", [{capture, all_but_first, binary}]) of
                {match, [Kb]} -> binary_to_integer(Kb) * 1024;
                nomatch -> none
            end;
        {error, _} -> none
    end.

%% What is only asked of some modules: [{Module, WithBeam :: boolean()}].
modules(Mods) ->
    Sessions = sessions(),
    [{M, lists:any(fun(Traced) -> traced(M, Traced) end, Sessions), erlang:get_module_info(M, nifs) =/= [],
      M:module_info(exports), callback_mode(M), states(M), case With andalso running_beam(M) of {ok, Bin} -> plain(Bin); _ -> none end}
     || {M, With} <- Mods, erlang:module_loaded(M)].

%% none | unknown | what gen_statem would be told.
callback_mode(M) -> maps:get(M, callback_modes([M])).

%% All asked at once, and who took its time once more: it may have been the machine that stood still.
callback_modes(Mods) ->
    Ask = fun(Ms) -> lists:zip(Ms, within(?CALLBACK_MS, [fun M:callback_mode/0 || M <- Ms])) end,
    {With, Without} = lists:partition(fun(M) -> exports(M, callback_mode, 0) end, Mods),
    First = Ask(With),
    Said = maps:merge(maps:from_list(First), maps:from_list(Ask([M || {M, late} <- First]))),
    maps:merge(maps:map(fun(_, Answer) -> mode(Answer) end, Said), maps:from_keys(Without, none)).

mode({ok, Mode}) when is_atom(Mode) -> mode_text(Mode);
mode({ok, [_ | _] = Mode}) -> case lists:all(fun is_atom/1, Mode) of true -> mode_text(Mode); false -> unknown end;
mode(_) -> unknown.

mode_text(Mode) -> bin(io_lib:format("~w", [Mode])).

%% Whether sys hands out the whole of what such a special process keeps: of less nothing can be put back as it was, and
%% no system_code_change can be tried on it.
states(M) ->
    Any = make_ref(),
    case exports(M, system_replace_state, 2) andalso within(?CALLBACK_MS, [fun() -> M:system_replace_state(fun(State) -> {State} end, Any) end]) of
        false -> whole;
        [{ok, {ok, {Any}, {Any}}}] -> whole;
        _ -> part
    end.

%% How each session of tracing is asked: from OTP 27 on there are others beside the one of old, dbg's is among them.
sessions() ->
    Own = case exports(trace, session_info, 1) of
              true -> [fun(MFA) -> trace:info(Session, MFA, traced) end || Session <- trace:session_info(all)];
              false -> []
          end,
    [fun(MFA) -> erlang:trace_info(MFA, traced) end | Own].

traced(M, Ask) ->
    lists:any(fun({F, A}) ->
        %% A session may end meanwhile.
        case try Ask({M, F, A}) catch error:_ -> none end of
            {traced, T} when T =:= local; T =:= global -> true;
            _ -> false
        end
    end, erlang:get_module_info(M, functions)).

%% Digests of the files in the priv directories of some applications; of very large ones that of their size.
private(Apps) ->
    [{App, [{bin(Name), Md5} || Name <- filelib:wildcard("**/*", Priv), {ok, Md5} <- [digest(filename:join(Priv, Name))]]}
     || App <- Apps, Priv <- [code:priv_dir(App)], is_list(Priv)].

digest(Path) ->
    case filelib:file_size(Path) of
        Large when Large > ?LARGE -> {ok, erlang:md5(bin(io_lib:format("~w bytes", [Large])))};
        _ -> case file:read_file(Path) of {ok, Bin} -> {ok, erlang:md5(Bin)}; {error, _} = E -> E end
    end.

%% [{App, Text}]: the text of an .app file names what its code was compiled with; answers what the node has otherwise,
%% and only where, for it may be a secret. As Elixir looks when it boots (Config.Provider.validate_compile_env/2).
environment(Apps) ->
    [{App, bin(lists:join(", ", Where))} || {App, Text} <- Apps, Where <- [otherwise(Text)], Where =/= []].

otherwise(Text) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
    {ok, {application, _, Properties}} = erl_parse:parse_term(Tokens),
    [lists:join(" -> ", [io_lib:format("~0tp", [Key]) || Key <- [App | Path]])
     || {App, Path, Compiled} <- proplists:get_value(compile_env, Properties, []), configured(App, Path) =/= Compiled].

configured(App, [Key | Path]) ->
    case application:get_env(App, Key) of
        {ok, Value} -> inside(Path, Value);
        undefined -> error
    end.

inside([], Value) -> {ok, Value};
inside([Key | Path], Map) when is_map_key(Key, Map) -> inside(Path, map_get(Key, Map));
inside([Key | Path], List) when is_list(List) ->
    case lists:keyfind(Key, 1, List) of {_, Value} -> inside(Path, Value); _ -> error end;
inside(_, _) -> error.

census(S) ->
    %% Low, so that a node under load serves its users first.
    Old = process_flag(priority, low),
    Self = self(),
    Pids = [P || P <- processes(), P =/= Self, P =/= S#s.guard],
    %% A kind keeps its number for the whole session: plans and rehearsals name it by that.
    Looked = now_us(),
    S1 = by_specs(look(Pids, ?SLICE, Looked, S#s{kinds = #{}, seen = #{}, sups = #{}, looked = Looked})),
    process_flag(priority, Old),
    Kinds = [K || #kind{n = N} = K <- maps:values(S1#s.kinds), N > 0],
    {{ok, #{kinds => [kind_term(K, S1) || K <- Kinds], silent => [ref(P) || P <- S1#s.silent]}}, S1#s{seen = (S1#s.seen)#{Self => [], S#s.guard => []}}}.

kind_term(#kind{id = Id, behaviour = B, host = H, modules = Ms, n = N, hibernated = Hib, memory = Mem, parents = Parents} = K, S) ->
    #{id => Id, behaviour => B, host => H, shows => shows(K#kind.entry, H, S#s.hosts), modules => Ms, processes => N, hibernated => Hib, memory_bytes => Mem,
      supervisors => length([P || P <- maps:keys(Parents), is_map_key(P, S#s.sups)]),
      sample => [ref(P) || P <- lists:sublist(K#kind.pids, 3)]}.

%% The module that was shown, where the user's words made another one of it: they never do of a supervisor or a manager.
shows({M, _, _}, Host, Hosts) ->
    case Hosts of
        #{M := [Host | _]} -> M;
        _ -> none
    end;
shows(_, _, _) -> none.

%% Loads nothing: a module that this node would load when it is called is looked for on its disk.
callable(M, F) ->
    case erlang:module_loaded(M) of
        true -> exports(M, F, 0);
        false ->
            case code:get_mode() =:= interactive andalso code:where_is_file(atom_to_list(M) ++ ".beam") of
                File when is_list(File) ->
                    case beam_lib:chunks(File, [exports]) of
                        {ok, {_, [{exports, Exported}]}} -> lists:member({F, 0}, Exported);
                        _ -> false
                    end;
                _ -> false
            end
    end.

%% Classifies one process and files it under its kind.
%% The process looked at answers in a turn of its own, at its own priority, whatever this one's is: three quarters of the time
%% are left to the others, and they get nearly half of the rest (measured). Whether a node is busy it does not say: requests
%% that wait for a client now and then leave the run queues empty.
look([], _, _, S) -> S;
look(Pids, 0, Since, S) ->
    receive after max(1, 3 * (now_us() - Since) div 1000) -> ok end,
    look(Pids, ?SLICE, now_us(), S);
look([Pid | More], N, Since, S) -> look(More, N - 1, Since, note(Pid, S)).

note(Pid, S) ->
    case classify(Pid, S#s.hosts) of
        gone -> S;
        {Behaviour, Host, Modules, Entry, Parent, Hibernated, Memory} ->
            Key = {Behaviour, Host, Modules, Entry},
            {Id, ByKey} = number(Key, S),
            K = maps:get(Id, S#s.kinds, #kind{id = Id, behaviour = Behaviour, host = Host, modules = Modules, plain = Modules, entry = Entry}),
            K1 = K#kind{n = K#kind.n + 1, memory = K#kind.memory + Memory,
                        parents = case Parent of none -> K#kind.parents; _ -> (K#kind.parents)#{Parent => []} end},
            %% Hibernated ones are frozen last: each message is a full collection for them.
            K2 = case Hibernated of
                     true -> K1#kind{hib = [Pid | K1#kind.hib], hibernated = K1#kind.hibernated + 1};
                     false -> K1#kind{pids = [Pid | K1#kind.pids]}
                 end,
            Sups = case Behaviour of supervisor -> (S#s.sups)#{Pid => []}; _ -> S#s.sups end,
            S#s{seen = (S#s.seen)#{Pid => Id}, by_key = ByKey, kinds = (S#s.kinds)#{Id => K2}, sups = Sups}
    end.

number(Key, #s{by_key = ByKey}) ->
    case ByKey of
        #{Key := Id} -> {Id, ByKey};
        _ -> Id = map_size(ByKey) + 1, {Id, ByKey#{Key => Id}}
    end.

%% A module that hosts callbacks of others (GenStage, DurableServer) hides them: what the child spec names belongs to
%% the process too. Files such processes under kinds of their own.
by_specs(S) ->
    Ref = erlang:unique_integer([positive]),
    Ask = fun({Sup}) -> Sup ! {'$gen_call', {self(), {Ref, {Sup}}}, which_children} end,
    Take = fun(_, Children, Acc) when is_list(Children) -> lists:foldl(fun(Child, A) -> named(Child, S, A) end, Acc, Children);
              (_, _, Acc) -> Acc
           end,
    Deadline = now_us() + ?SPECS_MS * 1000,
    Idle = fun(Pending, _, Acc) ->
        case now_us() > Deadline of true -> {stop, {Acc, take([P || {P} <- Pending], ?NAMED)}}; false -> {without, [], Acc} end
    end,
    {Named, Silent} = case flow([{Sup} || Sup <- maps:keys(S#s.sups)], Ref, Ask, Take, Idle, 100, #{}) of
                          {_, _} = Cut -> Cut;
                          All -> {All, []}
                      end,
    maps:fold(fun refile/3, S#s{silent = Silent}, Named).

%% #{KindId => #{modules of a spec => #{Pid => []}}}
named({_, Pid, worker, Mods}, #s{seen = Seen, kinds = Kinds}, Acc) when is_pid(Pid), is_list(Mods) ->
    case Seen of
        #{Pid := Id} when is_integer(Id) ->
            #kind{behaviour = B, modules = Ms} = maps:get(Id, Kinds),
            case [M || M <- Mods, is_atom(M)] -- Ms of
                [_ | _] = More when B =/= gen_event ->
                    case migrates(B) orelse B =:= unasked orelse B =:= hidden of
                        true ->
                            Of = maps:get(Id, Acc, #{}),
                            Acc#{Id => Of#{More => (maps:get(More, Of, #{}))#{Pid => []}}};
                        false -> Acc
                    end;
                _ -> Acc
            end;
        _ -> Acc
    end;
named(_, _, Acc) -> Acc.

refile(Id, Of, S0) ->
    maps:fold(fun(More, Set, #s{kinds = Kinds} = S) ->
        #kind{behaviour = B, host = H, modules = Ms, entry = E, pids = Ps, hib = Hs, n = N, memory = Mem} = K = maps:get(Id, Kinds),
        {There, Here} = lists:partition(fun(P) -> is_map_key(P, Set) end, Ps),
        {ThereHib, HereHib} = lists:partition(fun(P) -> is_map_key(P, Set) end, Hs),
        All = Ms ++ More,
        {New, ByKey} = number({B, H, All, E}, S),
        Old = maps:get(New, Kinds, K#kind{id = New, modules = All, pids = [], hib = [], n = 0, hibernated = 0, memory = 0}),
        Moved = length(There) + length(ThereHib),
        Share = Mem * Moved div max(N, 1),
        Rest = K#kind{pids = Here, hib = HereHib, n = N - Moved, hibernated = length(HereHib), memory = Mem - Share},
        S#s{by_key = ByKey,
            seen = maps:merge(S#s.seen, maps:map(fun(_, _) -> New end, Set)),
            kinds = Kinds#{Id => Rest, New => Old#kind{pids = There ++ Old#kind.pids, hib = ThereHib ++ Old#kind.hib,
                                            n = Old#kind.n + Moved, hibernated = Old#kind.hibernated + length(ThereHib),
                                            memory = Old#kind.memory + Share}}}
    end, S0, Of).

%% Hosts: #{Module that is shown => [Host | modules whose callbacks run too]}, in the user's words.
classify(Pid, Hosts) ->
    case process_info(Pid, [dictionary, current_stacktrace, memory, initial_call, current_function]) of
        undefined -> gone;
        [{dictionary, D}, {current_stacktrace, St}, {memory, Mem}, {initial_call, {IM, _, _}}, {current_function, Cf}] ->
            Hib = hibernates(Cf),
            Parent = case lists:keyfind('$ancestors', 1, D) of
                         {_, [P | _]} when is_pid(P) -> P;
                         {_, [Name | _]} when is_atom(Name) ->
                             case whereis(Name) of Q when is_pid(Q) -> Q; _ -> none end;
                         _ -> none
                     end,
            {B, Host, Mods, Entry} = case lists:keyfind('$initial_call', 1, D) of
                                         {_, {M, F, A}} when is_atom(M) ->
                                             case page(D, {M, F, A}, St, Hib) of
                                                 none -> driven({Pid, Hib}, {M, F, A}, St, Hosts);
                                                 PageHost -> {gen_server, PageHost, [M], {M, F, A}}
                                             end;
                                         _ when IM =:= proc_lib -> hidden(St);
                                         _ -> raw(IM, St)
                                     end,
            {B, Host, Mods, Entry, Parent, Hib, Mem}
    end.

%% One that has erased its dictionary, or is sensitive: its stack says what runs it, and at most a child spec whose callbacks.
hidden(St) ->
    case engine(lists:reverse(St)) of
        task -> raw(proc_lib, St);
        %% It hibernates, or is deep in other code.
        unknown -> {hidden, proc_lib, [proc_lib], none};
        _ -> {unasked, proc_lib, [proc_lib], none}
    end.

%% One that a fun was spawned for began in apply; whose fun it is its outermost frame says.
raw(erlang, [_ | _] = St) -> {M, _, _, _} = lists:last(St), {raw, M, [M], none};
raw(IM, _) -> {raw, IM, [IM], none}.
%% The host of a LiveView or of a channel. Phoenix's own gen_server names the user's module as its start once that was
%% mounted or joined, and labels the process; releases before the labels are known by a function that only such modules
%% have. Anybody may start a process by a function of that name: it is of Phoenix only where Phoenix's module is loaded
%% and gen_server runs it, as far as its stack tells.
page(D, {M, F, 3}, St, Hib) ->
    case [P || {Start, _, _, _} = P <- pages(), Start =:= F] of
        [{_, Host, Label, Mark}] ->
            Labelled = case lists:keyfind('$process_label', 1, D) of {_, {Label, M, _}} -> true; _ -> false end,
            Runs = case engine(lists:reverse(St)) of
                       gen_server -> true;
                       unknown -> Labelled orelse Hib;
                       _ -> false
                   end,
            case Runs andalso exports(Host, code_change, 3) andalso (Labelled orelse exports(M, Mark, 0)) of
                true -> Host;
                false -> none
            end;
        [] -> none
    end;
page(_, _, _, _) -> none.

%% {function that starts it, host, head of the label, function that the user's modules have}
pages() ->
    [{mount, 'Elixir.Phoenix.LiveView.Channel', 'Elixir.Phoenix.LiveView', '__live__'},
     {join, 'Elixir.Phoenix.Channel.Server', 'Elixir.Phoenix.Channel', '__intercepts__'}].

%% From OTP 28 on the behaviours wait in functions of their own.
hibernates({erlang, hibernate, _}) -> true;
hibernates({gen_server, loop_hibernate, _}) -> true;
hibernates({gen_statem, loop_hibernate, _}) -> true;
hibernates(_) -> false.

driven(_, {supervisor, Mod, 1}, _, _) -> {supervisor, Mod, [Mod], {supervisor, Mod, 1}};
driven({Pid, Hib}, {gen_event, init_it, _} = E, _, _) -> {gen_event, gen_event, handlers(Pid, Hib), E};
driven(_, {M, _, _} = E, St, Hosts) when is_map_key(M, Hosts) ->
    #{M := [Host | _] = Mods} = Hosts,
    %% Whatever it was started by: it has become what the user says.
    case engine(lists:reverse(St)) of
        unknown -> by_exports({Host, init, 1}, Mods, E);
        gen_fsm -> {unasked, Host, Mods, E};
        Engine -> {Engine, Host, Mods, E}
    end;
driven({_, Hib}, {M, F, A} = E, St, _) ->
    case engine(lists:reverse(St)) of
        task -> {task, M, [M], E};
        gen_server when F =:= init, A =:= 1 -> {gen_server, M, [M], E};
        gen_statem when F =:= init, A =:= 1 -> {gen_statem, M, [M], E};
        %% Spawned by proc_lib and entered the loop from there, as protocols of ranch do. An Agent names its function too.
        gen_server when F =:= init -> case exports(M, handle_call, 3) of true -> {gen_server, M, [M], E}; false -> agent(M, E) end;
        gen_statem ->
            case F =:= init orelse exports(M, callback_mode, 0) of true -> {gen_statem, M, [M], E}; false -> {unasked, M, [M], E} end;
        %% An Agent of a function, not of a fun, looks like a server that entered the loop from one.
        gen_server ->
            case is_fun(F) orelse not exports(M, handle_call, 3) of true -> agent(M, E); false -> {unasked, M, [M], E} end;
        gen_fsm -> {unasked, M, [M], E};
        unknown ->
            %% Whoever hibernates shows no stack: it may have entered a loop from there.
            Serves = exports(M, handle_call, 3) orelse exports(M, handle_sync_event, 4),
            case Hib andalso Serves andalso F =/= init andalso not is_fun(F) of true -> {hidden, M, [M], E}; false -> by_exports(E, [M], E) end
    end.

is_fun(F) -> lists:prefix("-", atom_to_list(F)).

agent(M, E) -> {agent, 'Elixir.Agent.Server', [M], E}.

by_exports({M, F, A}, Mods, E) ->
    case {F, A, exports(M, callback_mode, 0), exports(M, handle_call, 3), special(M)} of
        {init, 1, true, _, _} -> {gen_statem, M, Mods, E};
        {init, 1, _, true, _} -> {gen_server, M, Mods, E};
        {_, _, _, _, true} -> {special, M, Mods, E};
        _ -> {proc_lib, M, Mods, E}
    end.

special(M) -> exports(M, system_continue, 3) andalso exports(M, system_terminate, 4).

exports(M, F, A) -> erlang:function_exported(M, F, A).

%% Outermost frame first: a server that waits for a state machine has both in its stack. Of a deep stack the outermost
%% frames are not told, so functions that callers run do not count.
engine([{gen_server, F, _, _} | St]) -> engine(F, gen_server, St);
engine([{gen_statem, F, _, _} | St]) -> engine(F, gen_statem, St);
engine([{gen_fsm, F, _, _} | St]) -> engine(F, gen_fsm, St);
engine([{'Elixir.Task.Supervised', _, _, _} | _]) -> task;
engine([_ | St]) -> engine(St);
engine([]) -> unknown.

engine(F, Engine, St) ->
    Name = atom_to_list(F),
    case lists:any(fun(Start) -> lists:prefix(Start, Name) end, ["loop", "handle_", "try_", "decode_msg", "init_it", "wake"]) of
        true -> Engine;
        false -> engine(St)
    end.

%% gen_event answers get_modules to release_handler too; one that hibernated stays awake after it, but not after system messages.
%% Whose handlers are not known may hold changed ones: the window is not begun before they are.
handlers(Pid, Hibernates) ->
    Ref = erlang:unique_integer([positive]),
    Self = self(),
    case Hibernates of
        true ->
            sys(Pid, {dead_pid(), ok}, {replace_state, fun({M, _, _} = Handler) -> Self ! {Ref, handler, M}, Handler end}),
            sys(Pid, {Self, Ref}, flyhot_knock);
        false -> Pid ! {Self, {Self, Ref}, get_modules}
    end,
    receive
        {Ref, Mods} when is_list(Mods) -> lists:usort(Mods);
        {Ref, _} -> lists:usort(handlers_told(Ref))
    after ?HANDLERS_MS -> [unknown]
    end.

handlers_told(Ref) -> receive {Ref, handler, M} -> [M | handlers_told(Ref)] after 0 -> [] end.

%% ---------------------------------------------------------------------------------------------------------------
%% Stage, copies, rehearsal
%% ---------------------------------------------------------------------------------------------------------------

%% [{Key, Offset, Total, Sha256, Bytes}]; a beam arrives whole or in pieces, in order.
stage(Pieces, S) ->
    try
        Staged = lists:foldl(fun stage_piece/2, S#s.staged, Pieces),
        {{ok, map_size(Staged)}, S#s{staged = Staged}}
    catch throw:{stage, Why} -> {{error, Why}, S}
    end.

stage_piece({Key, 0, Total, Sha, Bytes}, Staged) when byte_size(Bytes) =:= Total ->
    whole(Key, Sha, binary:copy(Bytes), Staged);
stage_piece({Key, Offset, Total, Sha, Bytes}, Staged) ->
    Have = case Offset of
               0 -> [];
               _ -> case Staged of
                        #{Key := {part, Offset, L}} -> L;
                        _ -> throw({stage, {out_of_order, text(Key)}})
                    end
           end,
    Parts = [binary:copy(Bytes) | Have],
    case Offset + byte_size(Bytes) of
        Total -> whole(Key, Sha, iolist_to_binary(lists:reverse(Parts)), Staged);
        At when At < Total -> Staged#{Key => {part, At, Parts}};
        _ -> throw({stage, {too_long, text(Key)}})
    end.

whole(Key, Sha, Bin, Staged) ->
    case sha256(Bin) of
        Sha -> Staged#{Key => Bin};
        %% crypto may be absent from a small release; the driver's own check then stands alone.
        none -> Staged#{Key => Bin};
        _ -> throw({stage, {digest_differs, text(Key)}})
    end.

sha256(Bin) -> try crypto:hash(sha256, Bin) catch _:_ -> none end.

%% [{Copy, Key}] become loaded modules that nobody else calls.
copies(Copies, S) ->
    [code:soft_purge(C) || {C, _} <- Copies],
    case code:atomic_load([{C, "flyhot", maps:get(Key, S#s.staged)} || {C, Key} <- Copies]) of
        ok -> {{ok, length(Copies)}, S};
        {error, Why} -> {{error, {copies, text(Why)}}, S}
    end.

%% Jobs: [{KindId, in_place | apart, [{Module, Copy}]}]
rehearse_live(Jobs, Down, Limit, Ms, S) ->
    S1 = S#s{rehearsals = maps:from_list([rehearsal(J, Down, S) || J <- Jobs])},
    Targets = [{P, Id} || {Id, _, _} <- Jobs, P <- pids(Id, S)],
    T0 = now_us(),
    Report = run_rehearsal(Targets, S1#s.rehearsals, Limit, T0 + Ms * 1000, S#s.dead),
    {{ok, Report#{took_us => now_us() - T0}}, S1}.

rehearsal({Id, How, Mods}, Down, S) ->
    #kind{behaviour = B} = maps:get(Id, S#s.kinds),
    {Id, {B, How, [{M, {Copy, vsn_arg(Down, vsn(M))}} || {M, Copy} <- Mods]}}.

vsn_arg(true, V) -> {down, V};
vsn_arg(false, V) -> V.

%% What OTP's release handler passes: the attribute, or what the compiler would have put there.
vsn(M) ->
    case proplists:get_value(vsn, M:module_info(attributes)) of
        [V] -> V;
        undefined -> binary:decode_unsigned(M:module_info(md5));
        V -> V
    end.

-record(r, {passed = 0, faults = [], failed = 0, died = 0, silent = [], deadline, since = #{}}).

%% Every process of the kinds in Rows runs the new code_change on its state; each failure says which process.
run_rehearsal(Targets, Rows, Limit, Deadline, Dead) ->
    Rehearsed = [T || {_, Id} = T <- Targets, is_map_key(Id, Rows)],
    Ref = erlang:unique_integer([positive]),
    Worker = self(),
    %% What a process has to know travels in the fun: one that reads it late, after another round began, must not
    %% answer in that round's name.
    Send = fun({Pid, Id} = T) ->
        case Rows of
            #{Id := {gen_event, _, Mods}} ->
                %% Handlers answer for themselves where they fail; what is queued behind them ends the count.
                sys(Pid, {Dead, ok}, {replace_state, fun(H) -> try_handler(H, Worker, Ref, Mods), H end}),
                sys(Pid, {Worker, {Ref, T}}, flyhot_knock);
            #{Id := {B, in_place, [{_, {Copy, Vsn}} | _]}} ->
                sys(Pid, {Dead, ok}, {replace_state, fun(State) -> Worker ! {{Ref, T}, try_change(B, Copy, Vsn, State)}, State end});
            #{Id := {B, apart, [{_, {Copy, Vsn}} | _]}} ->
                sys(Pid, {Dead, ok}, {replace_state, fun(State) ->
                    Worker ! {helper, spawn(?MODULE, rehearse_apart, [Worker, {Ref, T}, B, Copy, Vsn, State])},
                    State
                end})
        end
    end,
    Take = fun({Pid, _}, {fault, _, _} = Fault, R) -> fault(Pid, Fault, R);
              (_, _, R) -> R#r{passed = R#r.passed + 1}
           end,
    Idle = fun(Pending, Died, R) ->
        Now = now_us(),
        %% One that is rehearsed apart has its deadline from when it was first seen waiting.
        Since = maps:from_list([{P, maps:get(P, R#r.since, Now)} || {P, _} <- Pending]),
        R1 = R#r{died = R#r.died + length(Died), since = Since},
        {Hung, Rest} = lists:partition(fun({P, Id}) ->
            element(2, maps:get(Id, Rows)) =:= apart andalso Now - maps:get(P, Since) > ?APART_MS * 1000
        end, Pending),
        R2 = lists:foldl(fun({P, Id}, A) ->
            fault(P, {fault, host(Id, Rows), too_long()}, A)
        end, R1, Hung),
        case Now > Deadline of
            true -> {stop, R2#r{silent = [straggler(P, host(Id, Rows), maps:get(P, Since)) || {P, Id} <- take(Rest, ?NAMED)]}};
            false -> {without, Hung, R2}
        end
    end,
    R = lists:foldl(fun({P, Fault}, A) -> fault(P, Fault, A#r{passed = A#r.passed - 1}) end,
                    flow(Rehearsed, Ref, Send, Take, Idle, Limit, #r{}), handler_faults(Ref)),
    end_helpers(),
    #{passed => R#r.passed, faults => lists:reverse(R#r.faults), failed => R#r.failed, died => R#r.died, silent => R#r.silent}.

%% They came before the answer of their manager.
handler_faults(Ref) ->
    receive {handler_fault, Ref, Pid, Fault} -> [{Pid, Fault} | handler_faults(Ref)] after 0 -> [] end.

too_long() -> bin(io_lib:format("code_change did not return within ~w ms", [?APART_MS])).

%% Helpers that came back are gone already.
end_helpers() ->
    receive {helper, Pid} -> exit(Pid, kill), end_helpers() after 0 -> ok end.

host(Id, Rows) ->
    {_, _, [{M, _} | _]} = maps:get(Id, Rows), M.

fault(Pid, {fault, Mod, Text}, R) ->
    Faults = case R#r.failed < ?NAMED of true -> [{ref(Pid), Mod, Text} | R#r.faults]; false -> R#r.faults end,
    R#r{failed = R#r.failed + 1, faults = Faults}.

%% ---------------------------------------------------------------------------------------------------------------
%% Many at once
%% ---------------------------------------------------------------------------------------------------------------

%% Send(Target) to each of All = [{Pid, _} | …], at most Limit unanswered; an answer is {{Ref, Target}, Answer} and
%% goes to Take. Ref is a small number: it travels in every message, and a reference is three words more. Nothing is
%% kept for a target on the way but a cell of a list: at a hundred thousand processes a map costs as much as the work.
%% When nothing came for a while Idle(Pending, Died, Acc) says {stop, Acc}, {without, Targets, Acc} to go on without
%% waiting for these, or throws. No monitors (design D6).
-record(flow, {all, ref, send, take, idle, limit, out = #{}}).

flow(All, Ref, Send, Take, Idle, Limit, Acc) ->
    flow(All, 0, [], ?QUIET_MS, #flow{all = All, ref = Ref, send = Send, take = Take, idle = Idle, limit = Limit}, Acc).

flow([T | More], N, Done, Quiet, #flow{send = Send, limit = Limit} = F, Acc) when N < Limit ->
    Send(T),
    flow(More, N + 1, Done, Quiet, F, Acc);
flow([], 0, _, _, _, Acc) -> Acc;
flow(Todo, N, Done, Quiet, #flow{ref = Ref, take = Take} = F, Acc) ->
    receive
        %% Too late: it was not counted among those on the way. One that died may have had a helper answer for it.
        {{Ref, T}, _} when is_map_key(T, F#flow.out) -> flow(Todo, N, Done, Quiet, F, Acc);
        {{Ref, T}, Answer} -> flow(Todo, N - 1, [T | Done], ?QUIET_MS, F, Take(T, Answer, Acc))
    after Quiet ->
        Finished = maps:from_list([{T, []} || T <- Done]),
        Sent = lists:sublist(F#flow.all, length(F#flow.all) - length(Todo)),
        Waiting = [T || T <- Sent, not is_map_key(T, Finished)],
        {Alive, Gone} = lists:partition(fun(T) -> is_process_alive(element(1, T)) end, Waiting),
        %% One that answered and died since has its answer in the mailbox.
        Died = [T || T <- Gone, receive {{Ref, T}, _} = M -> self() ! M, false after 0 -> true end],
        case (F#flow.idle)(Alive, Died, Acc) of
            {stop, Acc1} -> Acc1;
            {without, Left, Acc1} ->
                Out = Left ++ Died,
                F1 = F#flow{out = maps:merge(F#flow.out, maps:from_list([{T, []} || T <- Out]))},
                flow(Todo, N - length(Out), Out ++ Done, min(Quiet * 2, 16), F1, Acc1)
        end
    end.

%% --- inside the process that rehearses ---

try_handler({Module, _, State}, Worker, Ref, Mods) ->
    case lists:keyfind(Module, 1, Mods) of
        {_, {Copy, Vsn}} ->
            case try_change(gen_event, Copy, Vsn, State) of
                ok -> ok;
                Fault -> Worker ! {handler_fault, Ref, self(), Fault}
            end;
        false -> ok
    end.

rehearse_apart(Worker, Tag, B, Copy, Vsn, State) ->
    Worker ! {Tag, try_change(B, Copy, Vsn, State)}.

%% As the behaviour's own system_code_change judges it, `catch` and all.
try_change(B, Copy, Vsn, State) ->
    case changed(B, Copy, Vsn, State) of
        {ok, _} -> ok;
        {fault, Text} -> {fault, original(Copy), Text}
    end.

changed(B, Module, Vsn, State) ->
    Result = try change(B, Module, Vsn, State)
             catch throw:T -> T;
                   error:R:St -> {'EXIT', {R, where(St)}};
                   exit:R -> {'EXIT', R}
             end,
    case {B, Result} of
        {gen_statem, {ok, Name, Data}} -> {ok, {Name, Data}};
        {gen_statem, _} -> {fault, text(Result)};
        {_, {ok, New}} -> {ok, New};
        _ -> {fault, text(Result)}
    end.

change(gen_statem, Copy, Vsn, {State, Data}) -> Copy:code_change(Vsn, State, Data, []);
change(special, Copy, Vsn, Misc) -> Copy:system_code_change(Misc, original(Copy), Vsn, []);
change(_, Copy, Vsn, State) -> Copy:code_change(Vsn, State, []).

%% A stack may carry the arguments of its top call, the state among them: that is not for a report.
without_arguments({'EXIT', {R, [{_, _, _, _} | _] = St}}) -> {'EXIT', {R, where(St)}};
without_arguments(Other) -> Other.

where(St) -> [{original(M), F, case A of _ when is_list(A) -> length(A); _ -> A end} || {M, F, A, _} <- lists:sublist(St, 2)].

%% flyhot$ID$Module -> Module; other names stay.
original(M) ->
    case string:split(atom_to_list(M), "$", all) of
        ["flyhot", _ | Rest] -> list_to_atom(lists:flatten(lists:join("$", Rest)));
        _ -> M
    end.

%% ---------------------------------------------------------------------------------------------------------------
%% Drain, prepare, way back, knock
%% ---------------------------------------------------------------------------------------------------------------

drain(Mods, Ms, Kill) ->
    Begun = now_us(),
    drain([M || M <- Mods, erlang:check_old_code(M)], Begun, Begun + Ms * 1000, Kill, 10).

drain(Mods, Begun, Deadline, Kill, Pause) ->
    case [M || M <- Mods, not code:soft_purge(M)] of
        [] -> #{modules => [], lingerers => [], killed => [], unnamed => 0};
        Left ->
            case now_us() > Deadline of
                false ->
                    receive after Pause -> ok end,
                    drain(Left, Begun, Deadline, Kill, min(Pause * 2, 500));
                true ->
                    All = [{P, M, Age} || M <- Left, Age <- [age(M)], P <- users(M)],
                    Who = [{straggler(P, M, Begun), Age} || {P, M, Age} <- take(All, ?NAMED)],
                    Report = #{modules => [], lingerers => [], killed => [], unnamed => length(All) - length(Who)},
                    case Kill of
                        true ->
                            [code:purge(M) || M <- Left],
                            Report#{killed := Who};
                        false -> Report#{modules := Left, lingerers := Who}
                    end
            end
    end.

%% Seconds for which a module's old code can have been old: its running code was on the disk no earlier.
age(M) ->
    case running_beam(M) of
        {ok, _} ->
            case file:read_file_info(code:which(M), [{time, posix}]) of
                {ok, Info} -> max(0, os:system_time(second) - element(6, Info));
                {error, _} -> none
            end;
        error -> none
    end.

users(M) ->
    [P || P <- processes(), P =/= self(), uses(P, M)].

%% Old code of M.
uses(P, M) -> try erlang:check_process_code(P, M) catch _:_ -> false end.

%% --- who holds code by a reference that no stack shows ---

%% soft_purge sees return addresses on stacks alone: it says true while funs of the code it takes away live in states
%% and tables, and each of these then fails with badfun. Looked for within Ms: local funs of any build of Changed, and
%% whatever names one of Removed. What: old | running | removed.
closures(Changed, Removed, Ask, Limit, Ms, S) ->
    Old = process_flag(priority, low),
    Until = now_us() + Ms * 1000,
    Builds = maps:from_list([{M, M:module_info(md5)} || M <- Changed, erlang:module_loaded(M), makes_funs(M)]),
    Want = {Builds, maps:from_list([{M, []} || M <- Removed])},
    Report = case map_size(Builds) + length(Removed) of
                 0 -> held_term(#{}, {0, 0}, {0, 0}, true);
                 _ ->
                     {H1, Tables, Cut1} = held_by_tables(Want, Until),
                     {H2, Processes, Cut2} = held_by_processes(Want, Ask, Limit, Until, H1, S),
                     held_term(H2, Processes, Tables, not (Cut1 orelse Cut2))
             end,
    process_flag(priority, Old),
    Report.

%% A module without a table of funs makes none; what an older build made is not known.
makes_funs(M) ->
    erlang:check_old_code(M) orelse
        case running_beam(M) of
            {ok, Bin} ->
                case beam_lib:chunks(Bin, ["FunT"], [allow_missing_chunks]) of
                    {ok, {_, [{_, missing_chunk}]}} -> false;
                    _ -> true
                end;
            error -> true
        end.

held_term(Held, {Looked, Of}, {Tables, OfTables}, Whole) ->
    #{held => [{What, M, Name, Place, N, Who} || {{What, M, Name, Place}, {N, Who}} <- maps:to_list(Held)],
      processes => {Looked, Of}, tables => {Tables, OfTables}, whole => Whole}.

hold(Place, Who, Hits, {Builds, _}, Held) ->
    lists:foldl(fun({What, M, Name}, H) ->
        Key = {What, M, Name, Place},
        case H of
            #{Key := {N, First}} -> H#{Key := {N + 1, First}};
            _ -> H#{Key => {1, Who}}
        end
    end, Held, counted(Hits, Builds)).

held_by_tables({_, Removed} = Want, Until) ->
    Env = [{bin(["the environment of ", atom_to_list(A)]), application:get_all_env(A)} || {A, _, _} <- application:loaded_applications()],
    Log = {<<"the configuration of logger">>, logger:get_config()},
    Terms = [{bin(io_lib:format("persistent term ~0tP", [K, 8])), V} || {K, V} <- persistent_term:get()],
    {H1, Cut1} = lists:foldl(fun({Place, Term}, {H, Cut}) ->
        case now_us() > Until of
            true -> {H, true};
            false ->
                {Left, Hits} = search(Term, Removed, {?TABLE_TERMS, #{}}),
                {hold(Place, <<>>, maps:keys(Hits), Want, H), Cut orelse Left =:= 0}
        end
    end, {#{}, false}, [Log | Env] ++ Terms),
    %% These two name every module of the node, and the environment was looked at.
    Index = [whereis(code_server), whereis(application_controller)],
    Tables = [T || T <- ets:all(), ets:info(T, protection) =/= private, not lists:member(ets:info(T, owner), Index)],
    lists:foldl(fun(T, {H, {Looked, Of}, Cut}) ->
        case now_us() > Until of
            true -> {H, {Looked, Of}, true};
            false ->
                {Left, Hits} = try in_table(T, Removed, Until) catch error:badarg -> {1, #{}} end,
                Place = bin(io_lib:format("ETS table ~0tp", [case ets:info(T, name) of undefined -> T; Name -> Name end])),
                {hold(Place, <<>>, maps:keys(Hits), Want, H), {Looked + 1, Of}, Cut orelse Left =:= 0}
        end
    end, {H1, {0, length(Tables)}, Cut1}, Tables).

%% {TermsLeft, Hits}; 0 left: not looked at whole.
in_table(T, Removed, Until) ->
    ets:safe_fixtable(T, true),
    %% Rows are copied before anything is looked at: so many at once as weigh no more than a megabyte or so.
    Rows = max(1, min(500, 100000 div (ets:info(T, memory) div max(1, ets:info(T, size)) + 1))),
    try rows(ets:select(T, [{'$1', [], ['$1']}], Rows), Removed, Until, {?TABLE_TERMS, #{}})
    after ets:safe_fixtable(T, false)
    end.

rows('$end_of_table', _, _, Acc) -> Acc;
rows({Rows, More}, Removed, Until, Acc) ->
    case search(Rows, Removed, Acc) of
        {0, _} = Acc1 -> Acc1;
        {_, Hits} = Acc1 ->
            case now_us() > Until of
                true -> {0, Hits};
                false -> rows(ets:select(More), Removed, Until, Acc1)
            end
    end.

%% Of processes that answer system messages states and dictionaries, of all others what can be seen without them.
held_by_processes({_, Removed} = Want, Ask, Limit, Until, Held, S) ->
    Kinds = looked_into(S),
    Of = lists:sum([N || #kind{n = N} <- Kinds]),
    Asked = [{L, K} || Ask, {L, K} <- [{take(Hib, ?HIBERNATED), K} || #kind{behaviour = B, hib = Hib} = K <- Kinds, answers(B)]
        ++ [{Ps, K} || #kind{behaviour = B, pids = Ps} = K <- Kinds, answers(B)]],
    First = [{P, K#kind.id} || {Ps, K} <- Asked, P <- take(Ps, ?FIRST)],
    Rest = [{P, K#kind.id} || {Ps, K} <- Asked, P <- lists:nthtail(min(?FIRST, length(Ps)), Ps)],
    Printed = [{{removed, M, none}, printed(M)} || M <- maps:keys(Removed)],
    {H1, N1, Cut1} = lists:foldl(fun({P, K}, {H, N, Cut}) ->
        case now_us() < Until andalso process_info(P, dictionary) of
            {dictionary, D} ->
                {Left, Hits} = in_process(P, D, Removed),
                {hold_stack(P, K, Printed, Want, hold(place(K), element(1, ref(P)), Hits, Want, H)), N + 1, Cut orelse Left =:= 0};
            undefined -> {H, N + 1, Cut};
            false -> {H, N, true}
        end
    end, {Held, 0, false}, outside(Kinds)),
    %% What a gen_statem has postponed, and its timeouts, it hands to nobody.
    {H1a, Cut1a} = lists:foldl(fun({P, K}, {H, Cut}) ->
        case now_us() > Until of true -> {H, true}; false -> {hold_stack(P, K, Printed, Want, H), Cut} end
    end, {H1, Cut1}, [{P, K} || Printed =/= [], #kind{behaviour = gen_statem} = K <- Kinds, P <- everyone(K)]),
    {H2, N2, Cut2} = ask_for_funs(First ++ Rest, Want, Limit, Until, {H1a, 0, Cut1a}, S),
    Skipped = lists:any(fun(#kind{behaviour = B, hibernated = N}) -> answers(B) andalso N > ?HIBERNATED end, Kinds),
    {H2, {N1 + N2, Of}, Cut2 orelse Skipped orelse not Ask}.

answers(B) -> migrates(B) orelse B =:= supervisor orelse B =:= agent orelse B =:= unasked.

%% The kernel's own processes, and those of the VM, hold nothing of anybody's but what they index.
looked_into(S) ->
    Kernel = code:lib_dir(kernel),
    [K || #kind{n = N, host = H} = K <- maps:values(S#s.kinds), N > 0, not is_below(code:which(H), Kernel), H =:= erlang orelse code:which(H) =/= preloaded].

%% Processes that answer no system messages, but for the one in which the driver waits for this.
outside(Kinds) ->
    [{P, K} || #kind{behaviour = B, pids = Ps, hib = Hib} = K <- Kinds, not answers(B), P <- Ps ++ Hib,
        process_info(P, current_function) =/= {current_function, {?MODULE, call, 1}}].

%% How the VM prints a module on the stack of a process that waits: what it lives on is shown there, return addresses and
%% variables, but for the variables of funs.
printed(M) ->
    Name = re:replace(atom_to_binary(M), "\\W", "\\\\&", [global]),
    {ok, Pattern} = re:compile(["(?<![\\w@.'])'?", Name, "'?(?![\\w@']|\\.[A-Za-z_])"]),
    Pattern.

%% {SeenWhole, Hits}. The process prints its stack itself, and a long term not to its end. One that does not wait has more in
%% its registers, one that hibernates all of it.
on_stack(P, Printed) -> on_stack(P, Printed, ?LOOKS).

on_stack(_, [], _) -> {true, []};
on_stack(P, Printed, Looks) ->
    case process_info(P, memory) of
        {memory, Bytes} when Bytes > ?STACK -> {false, []};
        {memory, _} ->
            case process_info(P, [status, current_function, backtrace]) of
                %% A sensitive one prints nothing.
                [{_, waiting}, {_, {M, F, _}}, {_, Text}] when {M, F} =/= {erlang, hibernate}, Text =/= <<>> ->
                    {binary:match(Text, <<"...">>) =:= nomatch, [What || {What, Pattern} <- Printed, re:run(Text, Pattern, [{capture, none}]) =:= match]};
                undefined -> {true, []};
                [{_, waiting}, _, _] -> {false, []};
                _ when Looks > 1 -> receive after 1 -> on_stack(P, Printed, Looks - 1) end;
                _ -> {false, []}
            end;
        undefined -> {true, []}
    end.

%% A stack that cannot be looked at may hold any.
hold_stack(P, K, Printed, Want, H) ->
    case on_stack(P, Printed) of
        {true, Hits} -> hold(place(K), element(1, ref(P)), Hits, Want, H);
        {false, _} -> hold(<<(place(K))/binary, " whose stack cannot be looked at">>, element(1, ref(P)), [What || {What, _} <- Printed], Want, H)
    end.

is_below(File, Dir) -> is_list(File) andalso is_list(Dir) andalso lists:prefix(Dir ++ "/", File).

place(#kind{host = H, behaviour = B}) -> bin(io_lib:format("~w ~ts", [B, H])).

ask_for_funs([], _, _, _, Acc, _) -> Acc;
ask_for_funs(Targets, {_, Removed} = Want, Limit, Until, {H, N, Cut}, S) ->
    case now_us() > Until of
        true -> {H, N, true};
        false ->
            {Batch, More} = lists:split(min(?BATCH, length(Targets)), Targets),
            Ref = erlang:unique_integer([positive]),
            Worker = self(),
            Send = fun({Pid, Id} = T) ->
                case maps:get(Id, S#s.kinds) of
                    %% Once per handler, and none without handlers.
                    #kind{behaviour = gen_event} ->
                        sys(Pid, {S#s.dead, ok}, {replace_state, fun(Handler) -> Worker ! {funs, Ref, T, funs_of(Handler, Removed)}, Handler end}),
                        sys(Pid, {Worker, {Ref, T}}, flyhot_knock);
                    _ -> sys(Pid, {S#s.dead, ok}, {replace_state, fun(State) -> Worker ! {{Ref, T}, funs_of(State, Removed)}, State end})
                end
            end,
            Take = fun({Pid, Id}, {Left, Hits}, {H1, N1, Cut1}) when is_list(Hits) ->
                           {hold(place(maps:get(Id, S#s.kinds)), element(1, ref(Pid)), Hits, Want, H1), N1 + 1, Cut1 orelse Left =:= 0};
                      (_, _, {H1, N1, Cut1}) -> {H1, N1 + 1, Cut1}
                   end,
            Since = now_us(),
            Idle = fun(_, _, {H1, N1, _} = Acc1) ->
                case now_us() - Since > ?BATCH_MS * 1000 of true -> {stop, {H1, N1, true}}; false -> {without, [], Acc1} end
            end,
            {H2, N2, Cut2} = flow(Batch, Ref, Send, Take, Idle, Limit, {H, N, Cut}),
            {H3, Cut3} = of_handlers(Ref, Want, H2, Cut2, S),
            ask_for_funs(More, Want, Limit, Until, {H3, N2, Cut3}, S)
    end.

of_handlers(Ref, Want, H, Cut, S) ->
    receive
        {funs, Ref, {Pid, Id}, {Left, Hits}} ->
            of_handlers(Ref, Want, hold(place(maps:get(Id, S#s.kinds)), element(1, ref(Pid)), Hits, Want, H), Cut orelse Left =:= 0, S)
    after 0 -> {H, Cut}
    end.

%% Inside the process that is asked.
funs_of(State, Removed) -> in_process(self(), [State | get()], Removed).

%% {TermsLeft, Hits}. What waits in its queue counts for removed modules alone: a message is for the code of after.
in_process(P, Term, Removed) ->
    Acc = search(Term, Removed, {?PROCESS_TERMS, #{}}),
    {Left, Hits} = case map_size(Removed) > 0 andalso process_info(P, message_queue_len) of
                       {_, N} when N > ?QUEUE -> {0, element(2, Acc)};
                       {_, N} when N > 0 ->
                           case process_info(P, messages) of
                               {messages, Waiting} -> search(Waiting, Removed, Acc);
                               undefined -> Acc
                           end;
                       _ -> Acc
                   end,
    {Left, maps:keys(Hits)}.

%% {TermsLeft, #{{removed, Module, FunName | none} | {fun, Module, FunName, Build} => []}}; Removed: #{Module => []}. Which
%% builds are looked for is left out: what is sent to every process of a node has to be small.
search(_, _, {0, _} = Acc) -> Acc;
search([H | T], Removed, {N, Hits}) -> search(T, Removed, search(H, Removed, {N - 1, Hits}));
search(T, Removed, {N, Hits}) when is_tuple(T) -> elements(tuple_size(T), T, Removed, {N - 1, Hits});
search(M, _, {N, Hits}) when is_map(M), map_size(M) > N -> {0, Hits};
search(M, Removed, {N, Hits}) when is_map(M) ->
    maps:fold(fun(K, V, Acc) -> search(V, Removed, search(K, Removed, Acc)) end, {N - 1, Hits}, M);
search(A, Removed, {N, Hits}) when is_atom(A) ->
    {N - 1, case Removed of #{A := _} -> Hits#{{removed, A, none} => []}; _ -> Hits end};
search(F, Removed, {N, Hits}) when is_function(F) ->
    {module, M} = erlang:fun_info(F, module),
    Hits1 = case Removed of #{M := _} -> Hits#{{removed, M, fun_name(F)} => []}; _ -> Hits end,
    case erlang:fun_info(F, type) of
        {type, external} -> {N - 1, Hits1};
        {type, local} ->
            {new_uniq, Build} = erlang:fun_info(F, new_uniq),
            {env, Env} = erlang:fun_info(F, env),
            search(Env, Removed, {N - 1, Hits1#{{'fun', M, fun_name(F), Build} => []}})
    end;
search(_, _, {N, Hits}) -> {N - 1, Hits}.

%% {What, Module, FunName} of what counts: old | running | removed.
counted(Hits, Builds) ->
    lists:append([case Hit of
                      {removed, _, _} -> [Hit];
                      %% One without a name lost its code before.
                      {'fun', _, [], _} -> [];
                      {'fun', M, Name, Build} ->
                          case Builds of
                              #{M := Build} -> [{running, M, Name}];
                              #{M := _} -> [{old, M, Name}];
                              _ -> []
                          end
                  end || Hit <- Hits]).

fun_name(F) -> {name, Name} = erlang:fun_info(F, name), Name.

%% {[{Namer, Removed}], [Unread]}: whose running code names which, as an atom or inside a literal. What cannot be read may
%% name any.
names([], _) -> {[], []};
names(Removed, Others) ->
    Named = [{M, named(M, Removed)} || M <- Others ++ Removed, M =/= ?MODULE, not is_copy(M), code:which(M) =/= preloaded],
    {[{M, R} || {M, Rs} <- Named, R <- case Rs of unread -> Removed; _ -> Rs end, R =/= M], [M || {M, unread} <- Named]}.

named(M, Removed) ->
    case running_beam(M) of
        {ok, Bin} ->
            {ok, {_, [{atoms, Atoms}, {_, Chunk}]}} = beam_lib:chunks(Bin, [atoms, "LitT"], [allow_missing_chunks]),
            Literals = literals(Chunk),
            [R || R <- Removed, lists:keymember(R, 2, Atoms) orelse binary:match(Literals, atom_to_binary(R)) =/= nomatch];
        error -> unread
    end.

%% The size before them is 0 where they are not compressed (OTP 28).
literals(missing_chunk) -> <<>>;
literals(Chunk) ->
    Rest = binary:part(Chunk, 4, byte_size(Chunk) - 4),
    case binary:decode_unsigned(binary:part(Chunk, 0, 4)) of 0 -> Rest; _ -> zlib:uncompress(Rest) end.

elements(0, _, _, Acc) -> Acc;
elements(I, T, Removed, Acc) -> elements(I - 1, T, Removed, search(element(I, T), Removed, Acc)).

%% [{Module, File, Key, Changed :: boolean()}]
prepare(Mods, S) ->
    Sticky = [{M, <<"sticky_directory">>} || {M, _, _, _} <- Mods, code:is_sticky(M)],
    case Sticky of
        [] ->
            case code:prepare_loading([{M, unicode:characters_to_list(F), maps:get(Key, S#s.staged)} || {M, F, Key, _} <- Mods]) of
                {ok, New} ->
                    {Old, Missing} = old_code([M || {M, _, _, true} <- Mods]),
                    {{ok, #{refused => [], old_missing => Missing}}, S#s{new = New, old = Old}};
                {error, Bad} ->
                    {{ok, #{refused => [{M, text(W)} || {M, W} <- Bad], old_missing => []}}, S}
            end;
        _ -> {{ok, #{refused => Sticky, old_missing => []}}, S}
    end.

%% The running code again, from where it was loaded; anything else would not be a way back.
old_code(Mods) ->
    lists:foldl(fun(M, {Old, Missing}) ->
        case running_beam(M) of
            {ok, Bin} ->
                case erlang:prepare_loading(M, plain(Bin)) of
                    {error, _} -> {Old, [M | Missing]};
                    Prepared -> {[Prepared | Old], Missing}
                end;
            error -> {Old, [M | Missing]}
        end
    end, {[], []}, Mods).

%% Where it was loaded from, or where a start would load it from: the first is a place that was never written where an upgrade was
%% taken back.
running_beam(M) -> running_beam(M, [F || F <- [code:which(M), code:where_is_file(atom_to_list(M) ++ ".beam")], is_list(F), F =/= []]).

running_beam(_, []) -> error;
running_beam(M, [File | More]) ->
    case erl_prim_loader:get_file(File) of
        {ok, Bin, _} ->
            case (try code:module_md5(Bin) catch error:_ -> none end) =:= M:module_info(md5) of
                true -> {ok, Bin};
                false -> running_beam(M, More)
            end;
        error -> running_beam(M, More)
    end.

%% No binary patterns in this module: OTP 29 refuses to load the instructions OTP 25 compiles them to.
plain(Bin) ->
    case binary:match(Bin, [<<31, 139>>], [{scope, {0, 2}}]) of
        {0, 2} -> zlib:gunzip(Bin);
        nomatch -> Bin
    end.

%% md5 on disk of each module, where the node would boot it from, and whether the running code is to be had where that was
%% loaded from: the two differ where somebody loaded it from elsewhere.
disk(Mods) ->
    lists:foldl(fun(M, Acc) ->
        File = case {code:where_is_file(atom_to_list(M) ++ ".beam"), code:is_loaded(M)} of
                   {non_existing, {file, F}} -> F;
                   {F, _} -> F
               end,
        case is_list(File) andalso erl_prim_loader:get_file(File) of
            {ok, Bin, _} -> [{M, code:module_md5(Bin), erlang:module_loaded(M) andalso running_beam(M) =/= error} | Acc];
            _ -> Acc
        end
    end, [], Mods).

way_back(Ids, Mods, S) ->
    Set = maps:from_list([{M, []} || M <- Mods]),
    Affected = maps:from_list([{P, []} || Id <- Ids, P <- pids(Id, S)]),
    %% Whoever serves a request is among the youngest, and these come last; one that began in a changed module may be the oldest.
    Others = [P || P <- processes(), not is_map_key(P, Affected), P =/= self()],
    Began = lists:append([everyone(K) || #kind{behaviour = B, modules = Ms} = K <- maps:values(S#s.kinds),
                                         lists:member(B, [raw, proc_lib, task]), lists:any(fun(M) -> is_map_key(M, Set) end, Ms)]),
    Sample = lists:usort(lists:nthtail(max(0, length(Others) - ?SAMPLE), Others) ++ take(Began, ?SAMPLE)),
    Depth = depth(),
    Printed = [printed(M) || M <- Mods],
    Inside = length([P || P <- Sample, is_inside(P, Set, Depth, Printed)]),
    #{sampled => length(Sample), inside => Inside, purge_us => 0}.

is_inside(P, Set, Depth, Printed) ->
    case executed(P, Set, Depth) of
        {[_ | _], _} -> true;
        {[], whole} -> false;
        {[], cut} -> below(P, Printed)
    end.

%% {Those of Set that its stack shows, whole | cut}.
executed(P, Set, Depth) ->
    case process_info(P, current_stacktrace) of
        {_, St} -> {lists:usort([M || {M, _, _, _} <- St, is_map_key(M, Set)]), case length(St) < Depth of true -> whole; false -> cut end};
        undefined -> {[], whole}
    end.

%% Whether any of them is among the return addresses of a deep stack. One too large to be printed may have any.
below(P, Printed) ->
    case process_info(P, memory) of
        {memory, Bytes} when Bytes > ?STACK -> true;
        {memory, _} ->
            case process_info(P, backtrace) of
                {backtrace, Text} ->
                    Frames = lists:usort(return_addresses(Text)),
                    lists:any(fun(Pattern) -> re:run(Frames, Pattern, [{capture, none}]) =:= match end, Printed);
                undefined -> false
            end;
        undefined -> false
    end.

return_addresses(Text) ->
    case re:run(Text, "Return addr \\w+ (\\(.*):", [global, {capture, all_but_first, binary}]) of
        {match, Frames} -> Frames;
        nomatch -> []
    end.

%% Frames that a stack is told with at most (backtrace_depth of system_flag/2, which cannot be asked for): 64 are the most that
%% there may be, and one return address after itself is told once.
depth() -> there(64).

there(0) -> {_, St} = process_info(self(), current_stacktrace), length(St);
there(N) -> case back_and_forth(N) of Depth when Depth >= 0 -> Depth end.

back_and_forth(N) -> case there(N - 1) of Depth when Depth >= 0 -> Depth end.

knock(Ids, Ms, Limit, S) ->
    Targets = [{P, Id} || Id <- Ids, P <- (maps:get(Id, S#s.kinds))#kind.pids],
    Ref = erlang:unique_integer([positive]),
    Start = now_us(),
    Send = fun({Pid, _} = T) -> sys(Pid, {self(), {Ref, T}}, flyhot_knock) end,
    Idle = fun(Pending, _, {N, _}) ->
        %% Nobody is left to be told, and the entry may be paused.
        case now_us() - Start > Ms * 1000 orelse driver_gone() of
            true -> {stop, {N, [straggler(P, (maps:get(Id, S#s.kinds))#kind.host, Start) || {P, Id} <- take(Pending, ?NAMED)]}};
            false -> {without, [], {N, []}}
        end
    end,
    {Answered, Stragglers} = flow(Targets, Ref, Send, fun(_, _, {N, L}) -> {N + 1, L} end, Idle, Limit, {0, []}),
    %% One that somebody else suspended answers too, and the thaw would resume it behind their back.
    Sups = [{P, S1} || Id <- Ids, P <- maps:keys((maps:get(Id, S#s.kinds))#kind.parents), #{P := S1} <- [S#s.seen], is_map_key(P, S#s.sups)],
    Asleep = [straggler(P, (maps:get(Id, S#s.kinds))#kind.host, Start) || {P, Id} <- Targets ++ lists:usort(Sups), suspended(P)],
    #{answered => Answered, stragglers => take(Stragglers ++ Asleep, ?NAMED)}.

suspended(P) ->
    case process_info(P, current_function) of
        {_, {sys, suspend_loop, _}} -> true;
        _ -> false
    end.

%% ---------------------------------------------------------------------------------------------------------------
%% Entry: listeners of ranch and ThousandIsland, paused around the window
%% ---------------------------------------------------------------------------------------------------------------

%% Listeners that run and can be paused, {ranch, Ref} | {thousand_island, Pid}, and what cannot: [{Name, Why}].
listeners(S) ->
    Servers = [P || #kind{entry = {supervisor, 'Elixir.ThousandIsland.Server', 1}} = K <- maps:values(S#s.kinds), P <- everyone(K),
                    exports('Elixir.ThousandIsland', suspend, 1), exports('Elixir.ThousandIsland', resume, 1)],
    Ranch = exports(ranch, suspend_listener, 1) andalso exports(ranch, resume_listener, 1) andalso exports(ranch, info, 0),
    [Info | Runs] = within(?ENTRY_MS, [fun() -> case Ranch of true -> ranch_listeners(); false -> [] end end
                                       | [fun() -> runs({thousand_island, P}) end || P <- Servers]]),
    {Refs, Not} = case Info of
                      {ok, L} -> {[{ranch, Ref} || {Ref, running, own} <- L],
                                  [{listener_name({ranch, Ref}), <<"its socket was handed to ranch, which could not open it again">>}
                                   || {Ref, running, given} <- L]};
                      _ -> {[], [{<<"ranch">>, unanswered(Info)}]}
                  end,
    {Refs ++ [{thousand_island, P} || {P, {ok, true}} <- lists:zip(Servers, Runs)],
     Not ++ [{listener_name({thousand_island, P}), unanswered(R)} || {P, R} <- lists:zip(Servers, Runs), not lists:member(R, [{ok, true}, {ok, false}, {ok, gone}])]}.

unanswered(late) -> bin(io_lib:format("it did not answer within ~w ms", [?ENTRY_MS]));
unanswered({_, Why}) -> text(Why).

%% ranch 1 answers lists, ranch 2 maps.
ranch_listeners() ->
    Property = fun(Key, Of) when is_map(Of) -> maps:get(Key, Of, undefined);
                  (Key, Of) when is_list(Of) -> proplists:get_value(Key, Of);
                  (_, _) -> undefined
               end,
    [{Ref, Property(status, Of), case Property(socket, Property(transport_options, Of)) of undefined -> own; _ -> given end}
     || {Ref, Of} <- case ranch:info() of Map when is_map(Map) -> maps:to_list(Map); List -> List end].

%% A listener that was stopped has nobody to be resumed for: gone.
runs({ranch, Ref}) ->
    try ranch:get_status(Ref) of
        Status -> Status =:= running
    catch error:badarg -> gone
    end;
runs({thousand_island, Pid}) ->
    case is_process_alive(Pid) of
        true -> lists:any(fun({Id, Child, _, _}) -> Id =:= listener andalso is_pid(Child) end, supervisor:which_children(Pid));
        false -> gone
    end.

listener_name({ranch, Ref}) -> <<"ranch ", (shown(Ref))/binary>>;
listener_name({thousand_island, Pid}) ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> <<"ThousandIsland ", (shown(Name))/binary>>;
        _ -> <<"ThousandIsland ", (bin(pid_to_list(Pid)))/binary>>
    end.

%% What a person types on the node.
resume_command({ranch, Ref}) ->
    case exports('Elixir.Kernel', inspect, 1) of
        true -> <<":ranch.resume_listener(", (shown(Ref))/binary, ")">>;
        false -> <<"ranch:resume_listener(", (shown(Ref))/binary, ").">>
    end;
resume_command({thousand_island, Pid}) ->
    Who = case process_info(Pid, registered_name) of
              {registered_name, Name} -> shown(Name);
              _ -> <<":erlang.list_to_pid(~c\"", (bin(pid_to_list(Pid)))/binary, "\")">>
          end,
    <<"ThousandIsland.resume(", Who/binary, ")">>.

shown(Term) ->
    case exports('Elixir.Kernel', inspect, 1) of
        true -> 'Elixir.Kernel':inspect(Term);
        false -> text(Term)
    end.

%% The guard knows who pauses what before anything is asked: should the worker end, it stops those before it resumes.
pause(#s{entry = []} = S) ->
    {Found, Not} = listeners(S),
    Worker = self(),
    Helpers = [{L, spawn(fun() -> pauses(L, Worker) end)} || L <- Found],
    case tell_entry(Helpers, S) of
        ok ->
            Deadline = now_us() + ?ENTRY_MS * 1000,
            Mons = [{L, H, monitor(process, H)} || {L, H} <- Helpers],
            [H ! go || {_, H} <- Helpers],
            Failed = [{listener_name(L), Why} || {L, H, Mon} <- Mons, {failed, Why} <- [paused(H, Mon, Deadline)]],
            Entry = [{L, none} || L <- Found],
            tell_entry(Entry, S),
            {{ok, #{listeners => [listener_name(L) || L <- Found], not_paused => Not ++ Failed}}, S#s{entry = Entry}};
        dead ->
            [exit(H, kill) || {_, H} <- Helpers],
            {{error, guard_died}, S}
    end;
pause(S) ->
    {_, S1} = entry_back(S),
    pause(S1).

pauses(L, Worker) ->
    Mon = monitor(process, Worker),
    receive go -> exit({paused, try suspend_listener(L) catch _:Why -> Why end}); {'DOWN', Mon, process, _, _} -> ok end.

%% One that takes too long is ended here: it must not pause what was resumed behind its back. What it paused of its
%% listener by then is resumed with the others.
paused(Helper, Mon, Deadline) ->
    receive
        {'DOWN', Mon, process, _, {paused, ok}} -> ok;
        {'DOWN', Mon, process, _, {paused, Why}} -> {failed, text(Why)};
        {'DOWN', Mon, process, _, Why} -> {failed, text(Why)}
    after max(0, (Deadline - now_us()) div 1000) ->
        exit(Helper, kill),
        receive {'DOWN', Mon, process, _, {paused, ok}} -> ok; {'DOWN', Mon, process, _, _} -> {failed, unanswered(late)} end
    end.

suspend_listener({ranch, Ref}) -> ranch:suspend_listener(Ref);
suspend_listener({thousand_island, Pid}) -> 'Elixir.ThousandIsland':suspend(Pid).

tell_entry(Entry, #s{guard = Guard}) ->
    Mon = monitor(process, Guard),
    Guard ! {entry, {self(), Mon}, Entry},
    receive
        {Mon, noted} -> demonitor(Mon, [flush]), ok;
        {'DOWN', Mon, process, _, _} -> dead
    end.

%% Resumes what is paused, and says what stays so: [{Name, what to type on the node}].
entry_back(#s{entry = []} = S) -> {[], S};
entry_back(#s{entry = Entry} = S) ->
    Still = resume_entry(Entry),
    tell_entry([], S),
    {Still, S#s{entry = []}}.

resume_entry(Entry) ->
    [begin Mon = monitor(process, H), exit(H, kill), receive {'DOWN', Mon, process, _, _} -> ok end end || {_, H} <- Entry, is_pid(H)],
    Until = now_us() + ?ENTRY_MS * 750,
    Results = within(?ENTRY_MS, [fun() -> resume_listener(L, Until) end || {L, _} <- Entry]),
    [begin
         %% Asked once more by one that outlives this: a listener that hangs comes back when it no longer does.
         {M, F, A} = resume_mfa(L),
         spawn(M, F, A),
         {listener_name(L), resume_command(L)}
     end || {{L, _}, Result} <- lists:zip(Entry, Results), Result =/= {ok, resumed}].

resume_listener(L, Until) ->
    {M, F, A} = resume_mfa(L),
    _ = try apply(M, F, A) catch _:_ -> failed end,
    case runs(L) of
        false ->
            case now_us() > Until of
                true -> paused;
                false -> receive after ?ENTRY_PAUSE_MS -> resume_listener(L, Until) end
            end;
        _ -> resumed
    end.

resume_mfa({ranch, Ref}) -> {ranch, resume_listener, [Ref]};
resume_mfa({thousand_island, Pid}) -> {'Elixir.ThousandIsland', resume, [Pid]}.

%% ---------------------------------------------------------------------------------------------------------------
%% Persist
%% ---------------------------------------------------------------------------------------------------------------

%% What the next start loads is written beside what the last one loaded, below flyhot/code, and made to count by the rename of
%% one file: the boot file that this node was started with. Until then a start loads what it would have loaded before, from
%% then on the new code and nothing else, whenever the power goes. Nothing that was there first is changed but boot files and
%% start_erl.data, and these are kept: going back is a rename too.

%% What a start would load, against [{App, Vsn, [{Module, Md5}], Md5 of its .app}] and the consolidated [{Module, Md5}]: the
%% beams that lie nowhere, and for each application where its beams lie or will. Touches nothing.
layout(Apps, Protocols, Name) ->
    case booted() of
        {ok, _, _, Script} ->
            At = places(Script),
            Dir = fresh(Name),
            {There, New} = moved(Apps, Protocols, At),
            Anew = [{A, ebin_dir(Dir, A, V)} || {A, V, _, _} <- New]
                   ++ [{consolidated, filename:join(Dir, "consolidated")} || consolidates(Protocols, ebin(consolidated, At))] ++ There,
            Stay = [{A, D} || A <- [consolidated | [A || {A, _, _, _} <- Apps]], not lists:keymember(A, 1, Anew), D <- [ebin(A, At)], D =/= none],
            #{lacks => lists:usort(lists:append([lacking(Mods, ebin(A, At)) || {A, _, Mods, _} <- New]
                                                ++ [lacking(Protocols, ebin(consolidated, At))])),
              places => [{A, bin(D)} || {A, D} <- Anew ++ Stay],
              shadowed => shadowed(lists:append([Protocols | [Mods || {_, _, Mods, _} <- Apps]]))};
        %% It has no start that could be changed; writing will say so.
        {error, _} -> #{lacks => [], places => [], shadowed => []}
    end.

%% Of which modules a start finds another build before it comes to what the boot file names: each -pa comes before those that were given
%% before it, and while the code server turns each of them round as well, the loader of an embedded start does not.
shadowed(Mods) ->
    Before = case {init:get_argument(pa), code:get_mode()} of
                 {{ok, Given}, embedded} -> lists:append(lists:reverse(Given));
                 {{ok, Given}, interactive} -> lists:reverse(lists:append(Given));
                 {error, _} -> []
             end,
    [M || {M, Md5} <- Mods, not lists:member(first_md5(M, Before), [none, Md5])].

first_md5(_, []) -> none;
first_md5(M, [D | Dirs]) -> case beam_md5(M, D) of none -> first_md5(M, Dirs); Md5 -> Md5 end.

%% The boot file of this node as it lies on the disk now, with the release's directory. The first -boot counts.
booted() ->
    Root = release_root(),
    case init:get_argument(boot) of
        {ok, [[Name | _] | _]} ->
            Boot = filename:join([Name ++ ".boot"]),
            case is_below(Boot, Root) andalso script(Boot) of
                {ok, Script} -> {ok, Root, Boot, Script};
                false -> {error, "it was not started by a boot file of its release, but by " ++ Boot};
                {error, Why} -> {error, io_lib:format("~ts: ~p", [Boot, Why])}
            end;
        _ -> {error, "it was not started by a boot file of a release"}
    end.

script(Boot) ->
    case file:read_file(Boot) of
        {ok, Bin} -> try {script, _, _} = Script = binary_to_term(Bin), {ok, Script} catch error:_ -> {error, no_boot_file} end;
        {error, _} = E -> E
    end.

%% #{App | consolidated => directory as the script writes it}
places({script, _, Commands}) ->
    maps:from_list([{home(P), P} || {path, Ps} <- Commands, P <- Ps]).

%% As the code server takes a directory's name apart.
home(P) ->
    case lists:reverse(filename:split(P)) of
        ["ebin", Name | _] -> list_to_atom(hd(string:split(Name, "-")));
        [Name | _] -> list_to_atom(Name)
    end.

ebin(App, At) -> case At of #{App := P} -> expand(P); _ -> none end.

expand(P) -> real(raw(P)).

%% $ROOT, and what -boot_var says, the last of them.
raw([$$ | P]) ->
    {Var, Rest} = lists:splitwith(fun(C) -> C =/= $/ end, P),
    Vars = case init:get_argument(boot_var) of {ok, Given} -> lists:append([pairs(G) || G <- Given]); error -> [] end,
    proplists:get_value(Var, lists:reverse(Vars), code:root_dir()) ++ Rest;
raw(P) -> P.

pairs([Var, Value | More]) -> [{Var, Value} | pairs(More)];
pairs(_) -> [].

%% Without the dots that lead up.
real(P) -> filename:join(lists:reverse(lists:foldl(fun("..", [_ | Up]) -> Up; (D, Up) -> [D | Up] end, [], filename:split(P)))).

%% A directory below flyhot/code that is not there yet, and that no other node takes.
fresh(Name) -> fresh(filename:join([release_root(), "flyhot", "code", Name ++ "-" ++ integer_to_list(erlang:phash2(node()))]), 1).
fresh(Base, N) ->
    Dir = Base ++ "-" ++ integer_to_list(N),
    case filelib:is_file(Dir) of true -> fresh(Base, N + 1); false -> Dir end.

%% Another node may share the directory, and have the same process id in a container of its own.
temporary(Dir) -> lists:append([Dir, ".", atom_to_list(node()), ".", os:getpid(), ".flyhot"]).

ebin_dir(Dir, App, Vsn) -> filename:join([Dir, atom_to_list(App) ++ "-" ++ binary_to_list(Vsn), "ebin"]).

%% Of the applications that a start would not load as they should be: where each lies that somebody has put below lib already,
%% whole and with all its files, and those that lie nowhere.
moved(Apps, Protocols, At) ->
    Hidden = [M || {M, _} <- Protocols],
    Root = release_root(),
    Unlike = [{App, filename:join([Root, "lib", atom_to_list(A) ++ "-" ++ binary_to_list(V), "ebin"])}
              || {A, V, _, _} = App <- Apps, not lies(App, Hidden, ebin(A, At))],
    {There, New} = lists:partition(fun({App, Lib}) -> lies(App, Hidden, Lib) end, Unlike),
    {[{element(1, App), Lib} || {App, Lib} <- There], [App || {App, _} <- New]}.

lies({A, _, Mods, Md5}, Hidden, Dir) ->
    lacking(Mods, Dir) =:= [] andalso (modules_in(Dir) -- [M || {M, _} <- Mods]) -- Hidden =:= []
        andalso md5_of(resource(Dir, A)) =:= Md5.

%% One that is no protocol any more would go on hiding the module of its name.
consolidates(Protocols, Dir) ->
    Protocols =/= [] andalso (lacking(Protocols, Dir) =/= [] orelse modules_in(Dir) -- [M || {M, _} <- Protocols] =/= []).

resource(none, _) -> none;
resource(Dir, App) -> filename:join(Dir, atom_to_list(App) ++ ".app").

md5_of(none) -> none;
md5_of(Path) -> case file:read_file(Path) of {ok, Bin} -> erlang:md5(Bin); {error, _} -> none end.

modules_in(none) -> [];
modules_in(Dir) -> [list_to_atom(filename:rootname(F)) || F <- entries(Dir), filename:extension(F) =:= ".beam"].

lacking(Mods, Dir) -> [M || {M, Md5} <- Mods, beam_md5(M, Dir) =/= Md5].

beam_md5(_, none) -> none;
beam_md5(M, Dir) ->
    case file:read_file(beam_file(Dir, M)) of
        {ok, Bin} -> try code:module_md5(Bin) catch error:_ -> none end;
        {error, _} -> none
    end.

beam_file(Dir, M) -> filename:join(Dir, atom_to_list(M) ++ ".beam").

%% Files: [{Name, Key}] of the release's own directory of its version, boot files and the like. The first error ends it, and
%% before the one rename nothing that was there has changed.
persist(Apps, Protocols, Name, Vsn, Files, S) ->
    case booted() of
        {ok, Root, Boot, Script} ->
            At = places(Script),
            Dir = fresh(Name),
            Version = binary_to_list(Vsn),
            Before = generations(booting(Root), Root),
            try {Written, Moved} = write(Root, Boot, At, Dir, moved(Apps, Protocols, At), Before, Protocols, Version, Files, S),
                follow(Apps, At, Moved),
                sweep(Root, Before),
                written(Written)
            catch throw:{failed, Path, Why} ->
                [file:del_dir_r(temporary(D)) || D <- [Dir, filename:join([Root, "releases", Version])]],
                sweep(Root, Before),
                (unwritten(Path, Why))#{boots := boots(Root, Boot, Apps, Protocols)}
            end;
        {error, Why} -> (written(0))#{nowhere := bin(Why)}
    end.

%% Which code a start loads, in place and anew: `either` where it depends on which.
boots(Root, Boot, Apps, Protocols) ->
    Anew = case started_with(Root) of
               "" -> Boot;
               Vsn -> filename:join([Root, "releases", Vsn, filename:basename(Boot)])
           end,
    case lists:usort([begin {ok, Script} = script(B), is_of(Apps, Protocols, places(Script)) end || B <- [Boot, Anew], filelib:is_regular(B)]) of
        [true] -> new;
        [false, true] -> either;
        _ -> old
    end.

is_of(Apps, Protocols, At) -> moved(Apps, Protocols, At) =:= {[], []} andalso not consolidates(Protocols, ebin(consolidated, At)).

%% The version that start_erl.data names, its last word; empty where there is no such file.
started_with(Root) ->
    case file:read_file(filename:join([Root, "releases", "start_erl.data"])) of
        {ok, Text} -> lists:last(["" | string:lexemes(binary_to_list(Text), " \n")]);
        {error, _} -> ""
    end.

written(N) -> #{written => N, failed => none, nowhere => none, boots => old}.
unwritten(Path, Why) -> (written(0))#{failed := {bin(Path), bin(io_lib:format("~p", [Why]))}}.

%% The running node looks for files where a start would.
follow(Apps, At, Moved) ->
    Place = fun(A) -> case lists:keyfind(A, 1, Moved) of {_, D} -> D; false -> ebin(A, At) end end,
    [code:replace_path(A, D) || {A, _, _, _} <- Apps, D <- [Place(A)], D =/= none],
    case Place(consolidated) of
        none -> ok;
        C -> [code:del_path(P) || P <- code:get_path(), filename:basename(P) =:= "consolidated"], code:add_patha(C), ok
    end.

%% One file that no start looks at.
jot(Path, Bin) ->
    try must(Path, filelib:ensure_dir(Path)), put_file(Path, Bin, Path) of
        N -> written(N)
    catch throw:{failed, Failed, Why} -> unwritten(Failed, Why)
    end.

write(Root, Boot, At, Dir, {There, Apps}, Before, Protocols, Vsn, Files, S) ->
    lists:keymember(filename:basename(Boot), 1, Files) orelse throw({failed, Boot, not_in_the_release}),
    Tmp = temporary(Dir),
    Protocol = [P || consolidates(Protocols, ebin(consolidated, At)), P <- Protocols],
    Made = [{A, ebin_dir(Dir, A, V)} || {A, V, _, _} <- Apps] ++ [{consolidated, filename:join(Dir, "consolidated")} || Protocol =/= []],
    Hidden = [M || {M, _} <- Protocols],
    [begin
         must(Tmp, cleared(Tmp)),
         must(Tmp, filelib:ensure_dir(filename:join(Tmp, "x"))),
         [like(D, filename:join(Root, "releases")) || D <- [filename:join(Root, "flyhot"), filename:dirname(Tmp), Tmp]]
     end || Made =/= []],
    Beams = [application_dir(A, ebin(A, At), filename:dirname(ebin_dir(Tmp, A, V)), Mods, Hidden, S) || {A, V, Mods, _} <- Apps]
            ++ [beams(Protocol, ebin(consolidated, At), filename:join(Tmp, "consolidated"), S) || Protocol =/= []],
    [begin
         synced(Tmp),
         %% Nobody who shares the disk takes away what no start names yet.
         claim(Root, [filename:basename(Dir) | Before]),
         must(Dir, file:rename(Tmp, Dir)),
         [synced(D) || D <- [filename:dirname(Dir), filename:join(Root, "flyhot"), Root]]
     end || Made =/= []],
    Moved = Made ++ There,
    New = [{F, content(F, maps:get(Key, S#s.staged), At, maps:from_list(Moved), Root)} || {F, Key} <- Files],
    Old = filename:dirname(Boot),
    Target = filename:join([Root, "releases", Vsn]),
    case filelib:is_dir(Target) of
        true -> completed(Old, Target);
        false -> version_dir(Old, Target, New)
    end,
    Data = filename:join([Root, "releases", "start_erl.data"]),
    {value, {_, Start}, Rest} = lists:keytake(filename:basename(Boot), 1, New),
    %% The one rename comes first; who starts from another directory does so only once start_erl.data, the last, says it.
    All = [{Boot, Start}]
          ++ [{filename:join(Target, F), Bin} || Target =/= Old, {F, Bin} <- New]
          ++ [{P, Bin} || {F, Bin} <- Rest, P <- [filename:join(Old, F)], filelib:is_regular(P)]
          ++ [{Data, iolist_to_binary([hd(string:lexemes(Text, " \n")), " ", Vsn, [$\n || binary:last(Text) =:= $\n]])}
              || {ok, Text} <- [file:read_file(Data)], string:lexemes(Text, " \n") =/= []],
    %% What is kept is what somebody deployed: never a start of flyhot's own, and nothing of a release before that one. Starts of
    %% flyhot's own that one left in the directories of other versions are what they were before.
    Base = filename:join([Root, "flyhot", "base"]),
    ours(At) orelse [] =:= [P || {P, Bin} <- All, file:read_file(P) =/= {ok, Bin}] orelse begin
        [put_file(P, Bin, P) || F <- kept(Base), P <- [filename:join(Root, F)], filename:dirname(P) =/= Old, is_ours(P),
                                {ok, Bin} <- [file:read_file(filename:join(Base, F))]],
        must(Base, cleared(Base)),
        [keep(P, filename:join(Base, lists:nthtail(length(Root) + 1, P))) || {P, _} <- All]
    end,
    Like = fun(P) -> case filelib:is_file(P) of true -> P; false -> filename:join(Old, filename:basename(P)) end end,
    {lists:sum(Beams) + lists:sum([put_file(P, Bin, Like(P)) || {P, Bin} <- All]), Moved}.

kept(Base) ->
    [F || F <- filelib:wildcard("releases/**", Base), filelib:is_regular(filename:join(Base, F)), filename:extension(F) =/= ".flyhot"].

cleared(Dir) -> case file:del_dir_r(Dir) of {error, enoent} -> ok; Done -> Done end.

ours(At) -> lists:any(fun(P) -> string:find(P, "/flyhot/code/") =/= nomatch end, maps:values(At)).

is_ours(Path) ->
    filename:extension(Path) =:= ".boot" andalso case script(Path) of {ok, Script} -> ours(places(Script)); {error, _} -> false end.

keep(Path, Backup) ->
    case filelib:is_regular(Path) andalso not is_ours(Path) of
        false -> ok;
        true ->
            must(Backup, filelib:ensure_dir(Backup)),
            must(Backup, link(Path, Backup)),
            synced(filename:dirname(Backup))
    end.

%% A directory like another, with these beams and this .app; what else is there is shared with it.
application_dir(App, Booted, To, Mods, Hidden, S) ->
    Ebin = filename:join(To, "ebin"),
    Private = [{Path, Mode, Bin} || {{file, <<"priv/", Key/binary>>}, Bin} <- maps:to_list(S#s.staged),
                                    [A, Mode, Path] <- [key(unicode:characters_to_list(Key))], A =:= atom_to_list(App)],
    %% Paths of directories end in a slash; one may be such that nothing is written in it from then on.
    {Dirs, Files} = lists:partition(fun({Path, _, _}) -> lists:last(Path) =:= $/ end, Private),
    %% One that no start knows yet may run all the same, with what lies beside it.
    From = case {Booted, Private, code:lib_dir(App)} of
               {none, [], Lib} when is_list(Lib) -> filename:join(Lib, "ebin");
               _ -> Booted
           end,
    N = beams(Mods, From, Ebin, S),
    write_file(resource(Ebin, App), maps:get({file, bin(["app/", atom_to_list(App)])}, S#s.staged), resource(From, App)),
    [must(filename:join(Into, Name), share(real_path(filename:join(Dir, Name)), filename:join(Into, Name)))
     || From =/= none, {Dir, Into} <- [{From, Ebin}, {filename:dirname(From), To}], Name <- entries(Dir),
        %% A link that leads nowhere is left out.
        filelib:is_file(filename:join(Dir, Name)), not filelib:is_file(filename:join(Into, Name)), not is_code(Name, Hidden)],
    [like(D, O) || {D, O} <- case From of
                                 none -> [{D, filename:dirname(To)} || D <- [Ebin, To]];
                                 _ -> [{Ebin, From}, {To, filename:dirname(From)}]
                             end],
    [private(To, Path, Mode, Bin) || From =:= none, {Path, Mode, Bin} <- Files ++ Dirs],
    synced(Ebin), synced(To),
    N + 1.

%% NAME/MODE/PATH
key(Key) -> [A, Rest] = string:split(Key, "/"), [A | string:split(Rest, "/")].

private(Top, P, Mode, Bin) ->
    Path = filename:join([Top, "priv", P]),
    must(Path, filelib:ensure_dir(Path)),
    case lists:last(P) of
        $/ -> must(Path, file:change_mode(Path, list_to_integer(Mode, 8)));
        _ -> write_file(Path, Bin, {mode, list_to_integer(Mode, 8)})
    end,
    [synced(D) || D <- up(filename:dirname(Path), Top)].

up(Top, Top) -> [];
up(Dir, Top) -> [Dir | up(filename:dirname(Dir), Top)].

is_code(Name, Hidden) ->
    filename:extension(Name) =:= ".app" orelse Name =:= "ebin"
        orelse (filename:extension(Name) =:= ".beam" andalso not lists:member(list_to_atom(filename:rootname(Name)), Hidden)).

entries(Dir) -> case file:list_dir(Dir) of {ok, Names} -> Names; {error, _} -> [] end.

real_path(P) -> case file:read_link_all(P) of {ok, To} -> real(filename:absname(To, filename:dirname(P))); {error, _} -> P end.

%% Files by another name, directories by a link that goes on leading there when the release is moved as a whole; where flyhot is
%% itself a link it would not, and names the place.
share(Real, To) ->
    Own = string:find(Real, "/flyhot/code/") =/= nomatch,
    case filelib:is_dir(Real) of
        %% A directory of flyhot's own goes one day.
        true when Own -> shared(Real, To);
        true ->
            case file:make_symlink(relative(filename:split(Real), filename:split(filename:dirname(To))), To) of
                ok -> case filelib:is_dir(To) of true -> ok; false -> file:delete(To), file:make_symlink(Real, To) end;
                {error, _} = E -> E
            end;
        false -> link(Real, To)
    end.

shared(From, To) ->
    must(To, file:make_dir(To)),
    [must(P, share(real_path(Real), P))
     || Name <- entries(From), Real <- [filename:join(From, Name)], filelib:is_file(Real), P <- [filename:join(To, Name)]],
    like(To, From),
    synced(To).

relative([D | Real], [D | From]) -> relative(Real, From);
relative(Real, From) -> filename:join([".." || _ <- From] ++ Real).

link(Real, To) ->
    case file:make_link(Real, To) of
        %% Not every file system has them, nor between any two places.
        {error, Why} when Why =/= eexist, Why =/= enospc, Why =/= enoent -> copied(Real, To);
        Done -> Done
    end.

%% A copy that outlasts a power cut as a link does.
copied(Real, To) ->
    case file:read_file(Real) of
        {ok, Bin} -> write_file(To, Bin, Real), ok;
        {error, _} = E -> E
    end.

%% Whoever may read or run the one may the other.
like(_, none) -> ok;
like(Path, {mode, Mode}) -> must(Path, file:change_mode(Path, Mode));
like(Path, Other) ->
    case file:read_file_info(Other) of
        {ok, Info} -> must(Path, file:change_mode(Path, element(8, Info)));
        {error, _} -> ok
    end.

%% How many were written; those that lie there already are the same files.
beams(Mods, From, To, S) ->
    must(To, filelib:ensure_dir(filename:join(To, "x"))),
    like(To, From),
    Like = case [F || From =/= none, F <- entries(From), filename:extension(F) =:= ".beam"] of
               [F | _] -> filename:join(From, F);
               [] -> none
           end,
    N = lists:sum([case beam_md5(M, From) of
                       Md5 -> must(beam_file(To, M), link(beam_file(From, M), beam_file(To, M))), 0;
                       _ -> write_file(beam_file(To, M), maps:get({beam, M}, S#s.staged), Like), 1
                   end || {M, Md5} <- Mods]),
    synced(To),
    N.

%% A boot file of the release, for the places where this node's code lies. One that names a directory that is not there would
%% never boot again.
content(Name, Bin, At, Moved, Root) ->
    case filename:extension(Name) of
        ".boot" ->
            {script, Id, Commands} = binary_to_term(Bin),
            New = [case C of {path, Ps} -> {path, [placed(P, At, Moved, Root) || P <- Ps]}; _ -> C end || C <- Commands],
            Known = maps:values(At),
            [throw({failed, raw(P), enoent}) || P <- lists:usort(lists:append([Ps || {path, Ps} <- New])),
                                                not lists:member(P, Known), not filelib:is_dir(raw(P))],
            term_to_binary({script, Id, New});
        _ -> Bin
    end.

placed(P, At, Moved, Root) ->
    App = home(P),
    case {Moved, At} of
        {#{App := Dir}, _} -> above(P) ++ lists:nthtail(length(Root), Dir);
        {_, #{App := Now}} -> Now;
        _ -> P
    end.

%% What leads to the release's directory: lib and releases lie in it.
above(P) ->
    case lists:reverse(filename:split(P)) of
        ["ebin", _ | Up] -> filename:join(lists:reverse([".." | Up]));
        [_, _, "releases" | Up] -> filename:join(lists:reverse(Up))
    end.

%% What the directory of a version lacks that somebody put there in part.
completed(Same, Same) -> ok;
completed(From, To) ->
    [put_file(filename:join(To, F), Bin, filename:join(From, F))
     || F <- configuring(From), not filelib:is_file(filename:join(To, F)), {ok, Bin} <- [file:read_file(filename:join(From, F))]].

configuring(Dir) ->
    [F || F <- entries(Dir), filelib:is_regular(filename:join(Dir, F)), not lists:member(filename:extension(F), [".boot", ".script", ".rel", ".flyhot"])].

%% The directory of a version that was never installed: as that of the running one, with other boot files.
version_dir(From, To, New) ->
    Tmp = temporary(To),
    must(Tmp, cleared(Tmp)),
    must(Tmp, filelib:ensure_dir(filename:join(Tmp, "x"))),
    [must(filename:join(Tmp, F), copied(filename:join(From, F), filename:join(Tmp, F))) || F <- configuring(From)],
    [write_file(filename:join(Tmp, F), Bin, filename:join(From, F)) || {F, Bin} <- New],
    like(Tmp, From),
    synced(Tmp),
    must(To, file:rename(Tmp, To)),
    synced(filename:dirname(To)).

%% How many were replaced.
put_file(Path, Bin, Like) ->
    Tmp = temporary(Path),
    case file:read_file(Path) of
        {ok, Bin} -> 0;
        _ ->
            try
                write_file(Tmp, Bin, Like),
                must(Path, file:rename(Tmp, Path)),
                synced(filename:dirname(Path)),
                1
            catch throw:Failed -> file:delete(Tmp), throw(Failed)
            end
    end.

write_file(Path, Bin, Like) ->
    {ok, F} = opened(Path, file:open(Path, [write, raw, binary])),
    %% Before there is anything to read in it.
    like(Path, Like),
    must(Path, file:write(F, Bin)),
    must(Path, file:sync(F)),
    must(Path, file:close(F)).

opened(_, {ok, F}) -> {ok, F};
opened(Path, {error, Why}) -> throw({failed, Path, Why}).

%% Between two changes of the disk.
must(_, ok) -> ?AT(disk), ok;
must(Path, {error, Why}) -> throw({failed, Path, Why}).

%% What a directory names has to outlast a power cut as well as what it holds.
synced(Dir) ->
    {ok, F} = opened(Dir, file:open(Dir, [read, raw, directory])),
    _ = file:sync(F),
    must(Dir, file:close(F)).

%% Has the next start load what it loaded before any upgrade. A start that is not flyhot's is somebody's new release, to which
%% what was kept does not belong.
restore_base() ->
    case booted() of
        {ok, Root, Boot, Script} ->
            Base = filename:join([Root, "flyhot", "base"]),
            Kept = kept(Base),
            Vsn = started_with(Base),
            Before = generations(booting(Root), Root),
            Starts = [F || F <- Kept, filename:basename(F) =:= filename:basename(Boot)],
            First = [F || F <- Starts, filename:basename(filename:dirname(F)) =:= Vsn] ++ Starts,
            case {ours(places(Script)), First} of
                {true, [Start | _]} ->
                    All = [{filename:join(Root, F), filename:join(Base, F)} || F <- Kept],
                    %% A version that was not there has no boot file of its own to go back to.
                    Own = case lists:keyfind(Boot, 1, All) of false -> {Boot, filename:join(Base, Start)}; Found -> Found end,
                    {Data, Rest} = lists:partition(fun({P, _}) -> filename:basename(P) =:= "start_erl.data" end, lists:delete(Own, All)),
                    %% Its own start last: until then a second run finds that there is something to restore.
                    try lists:sum([begin {ok, Bin} = opened(From, file:read_file(From)), put_file(P, Bin, P) end || {P, From} <- Rest ++ Data ++ [Own]]) of
                        N -> sweep(Root, Before), written(N)
                    catch throw:{failed, Path, Why} -> unwritten(Path, Why)
                    end;
                {true, []} -> unwritten(Base, enoent);
                _ -> written(0)
            end;
        {error, Why} -> (written(0))#{nowhere := bin(Why)}
    end.

%% Directories that no start and nobody who runs loads from any more. Other nodes may share this one's directory: each notes what
%% it uses, and what somebody may have been started from who never noted anything: what starts named before.
sweep(Root, Before) ->
    try claim(Root, Before) of
        _ ->
            Nodes = filename:join([Root, "flyhot", "nodes"]),
            Others = lists:append([string:lexemes(unicode:characters_to_list(Text), "\n") || N <- entries(Nodes),
                                                                                           {ok, Text} <- [file:read_file(filename:join(Nodes, N))]]),
            Code = filename:join([Root, "flyhot", "code"]),
            Gone = [D || D <- (entries(Code) -- generations(booting(Root), Root)) -- Others, filename:extension(D) =/= ".flyhot"],
            [file:del_dir_r(filename:join(Code, D)) || D <- Gone],
            ok
    catch throw:{failed, _, _} -> ok
    end.

claim(Root, More) ->
    Mine = generations(code:get_path() ++ [F || {_, F} <- code:all_loaded(), is_list(F)], Root),
    Path = filename:join([Root, "flyhot", "nodes", atom_to_list(node())]),
    must(Path, filelib:ensure_dir(Path)),
    put_file(Path, unicode:characters_to_binary(lists:join("\n", lists:usort(Mine ++ More))), Path).

%% Where starts load from.
booting(Root) ->
    Releases = filename:join(Root, "releases"),
    lists:append([maps:values(places(Script)) || B <- filelib:wildcard("*/*.boot", Releases), {ok, Script} <- [script(filename:join(Releases, B))]]).

%% The directories below flyhot/code that these paths lead to.
generations(Paths, Root) ->
    [D || D <- entries(filename:join([Root, "flyhot", "code"])),
          lists:any(fun(P) -> string:find(P, "/flyhot/code/" ++ D ++ "/") =/= nomatch end, Paths)].

%% ---------------------------------------------------------------------------------------------------------------
%% Removed modules
%% ---------------------------------------------------------------------------------------------------------------

%% Deletes what the release no longer has, where nobody is left who could call it. Names: [{Namer, Removed}] of code of before;
%% Builds: [{Namer, Md5}] of those namers that were Swapped. Files stay: the node's boot files name them, and an embedded node
%% loads none by itself.
remove(Removed, Swapped, Names, Builds, Limit, Ms, S0) ->
    Low = process_flag(priority, low),
    Until = now_us() + Ms * 1000,
    S = newcomers(S0),
    %% What code before that of an earlier upgrade names is not known.
    Older = [{M, M:module_info(md5)} || M <- erlang:loaded(), erlang:check_old_code(M), not lists:member(M, Swapped), M =/= ?MODULE],
    Want = {maps:from_list(Older ++ Builds), maps:from_list([{M, []} || M <- Removed])},
    {H1, _, Cut1} = held_by_tables(Want, Until),
    {H2, _, Cut2} = held_by_processes(Want, true, Limit, Until, H1, S),
    Cut = [<<"not every state and table could be looked at">> || Cut1 orelse Cut2],
    Kinds = maps:values(S#s.kinds),
    Tables = [io_lib:format("ETS table ~0tp of ~ts is private", T) || T <- unreadable(Kinds)],
    NotSeen = case Cut ++ Tables of [] -> fun_on_stack(outside(looked_into(S)), Until); [First | _] -> [First] end,
    Unseen = [{M, bin(Why)} || Why <- NotSeen, M <- Removed],
    Holds = [{M, bin(["held by ", Place])} || {removed, M, _, Place} <- maps:keys(H2)],
    Runs = [{M, bin(["run by ", place(K)])} || K <- Kinds, lists:any(fun is_process_alive/1, everyone(K)),
                                              M <- [K#kind.host | K#kind.modules], lists:member(M, Removed)],
    Of = fun(Namer) -> case lists:keymember(Namer, 1, Builds) of true -> [M || {N, M} <- Names, N =:= Namer]; false -> Removed end end,
    Before = fun(Namer, Who) -> [{M, bin(io_lib:format("the version before of ~ts, which may name it, is still run or held by ~ts", [Namer, Who]))}
                                 || M <- Of(Namer)] end,
    Outdated = lists:append([Before(N, Place) || {What, N, _, Place} <- maps:keys(H2), What =:= running andalso lists:keymember(N, 1, Builds)
                                                                                   orelse What =:= old andalso lists:keymember(N, 1, Older)]),
    Tried = [{M, to_put_back(M)} || M <- Removed],
    Refused = [{M, Why} || {M, {no, Why}} <- Tried],
    Kept = with_named(maps:from_list(Refused ++ Unseen ++ Outdated ++ Holds ++ Runs), Names),
    Used = case [M || M <- Removed, not is_map_key(M, Kept)] of
               [] -> [];
               _ -> in_use([N || {N, _} <- Older ++ Builds], Before, Until, Removed)
           end,
    process_flag(priority, Low),
    Kept0 = with_named(maps:merge(maps:from_list(Used), Kept), Names),
    %% Of what stays the code of before stays too: funs of it may be anywhere.
    Stuck = [{M, <<"its own version before is still in use">>} || M <- Removed, not is_map_key(M, Kept0), erlang:check_old_code(M), not code:soft_purge(M)],
    Kept1 = with_named(maps:merge(maps:from_list(Stuck), Kept0), Names),
    Go = [{M, Prepared} || {M, {ok, Prepared}} <- Tried, not is_map_key(M, Kept1)],
    case delete(Go) of
        ok -> #{deleted => [M || {M, _} <- Go], kept => maps:to_list(Kept1)};
        {back, Why} -> #{deleted => [], kept => maps:to_list(Kept1) ++ [{M, Why} || {M, _} <- Go]}
    end.

in_use([], _, _, _) -> [];
in_use([Namer | More], Before, Until, Removed) ->
    case now_us() > Until of
        true -> [{M, <<"not everybody could be asked in time which version they run">>} || M <- Removed];
        false -> lists:append([Before(Namer, element(1, ref(P))) || P <- take(users(Namer), 1)]) ++ in_use(More, Before, Until, Removed)
    end.

%% The first who may have one decides.
fun_on_stack([], _) -> [];
fun_on_stack([{P, K} | More], Until) ->
    case now_us() > Until orelse on_stack(P, [{'fun', "#Fun<"}]) of
        {true, []} -> fun_on_stack(More, Until);
        true -> [<<"not every stack could be looked at">>];
        _ -> [io_lib:format("a fun on the stack of ~ts, ~ts, may hold it", [element(1, ref(P)), place(K)])]
    end.

%% {ok, Prepared}, or {no, Why} for what could not be put back, or would not come back with a release that has it.
to_put_back(M) ->
    case {application:get_application(M), running_beam(M), erlang:get_module_info(M, nifs)} of
        {_, _, [_ | _]} -> {no, <<"it has native code">>};
        {undefined, _, _} -> {no, <<"no application lists it, so that nothing would load it again">>};
        {_, error, _} -> {no, <<"its code on the disk is another one">>};
        {_, {ok, Bin}, []} ->
            case erlang:prepare_loading(M, plain(Bin)) of
                {error, Why} -> {no, text(Why)};
                Prepared ->
                    case erlang:has_prepared_code_on_load(Prepared) of
                        true -> {no, <<"it has an on_load function">>};
                        false -> {ok, Prepared}
                    end
            end
    end.

%% What stays keeps what it names.
with_named(Kept, Names) ->
    case [{R, bin(io_lib:format("~ts names it, and stays", [N]))} || {N, R} <- Names, is_map_key(N, Kept), not is_map_key(R, Kept)] of
        [] -> Kept;
        More -> with_named(maps:merge(maps:from_list(More), Kept), Names)
    end.

%% Tables that only their owner can read, but for those of OTP's own processes.
unreadable(Kinds) ->
    Otp = [code:lib_dir(kernel), code:lib_dir(stdlib)],
    Own = maps:from_list([{P, []} || #kind{host = H} = K <- Kinds, lists:any(fun(Dir) -> is_below(code:which(H), Dir) end, Otp), P <- everyone(K)]),
    [[ets:info(T, name), pid_to_list(P)] || T <- ets:all(), ets:info(T, protection) =:= private, P <- [ets:info(T, owner)],
        is_pid(P), not is_map_key(P, Own)].

%% All, or none: nobody who is inside one of them is left without the others.
delete(Go) ->
    Mods = [M || {M, _} <- Go],
    ?AT(deleting),
    [true = erlang:delete_module(M) || M <- Mods],
    ?AT(deleted),
    case [{M, P} || M <- Mods, P <- users(M)] of
        [] ->
            [begin code:soft_purge(M), code:delete(M) end || M <- Mods],
            ok;
        [{M, P} | _] ->
            ok = erlang:finish_loading([Prepared || {_, Prepared} <- Go]),
            {back, bin(io_lib:format("~ts came into ~ts meanwhile", [element(1, ref(P)), M]))}
    end.

%% ---------------------------------------------------------------------------------------------------------------
%% The window
%% ---------------------------------------------------------------------------------------------------------------

%% Script: modules => [{Module, LoadedMd5 | none, TargetMd5}], kinds => [{KindId, keep | {migrate, [Module]}, inside | apart}],
%%         budget_us, revert_us, in_flight, down, way_back => exact | after_drain | none
window(Script, S0) ->
    S1 = newcomers(S0),
    {Joining, S2} = joining(maps:get(modules, Script), S1),
    W0 = new_window(Script#{kinds := [K || {Id, _, _} = K <- maps:get(kinds, Script), not lists:keymember(Id, 1, Joining)] ++ Joining}, S2),
    S = not_yet_known(S0, S2, W0),
    W = try
            unplanned(S, W0),
            few_born([P || {P, _} <- W0#w.targets, not is_map_key(P, S0#s.seen)], S0#s.looked, W0),
            to_swap(W0, S)
        of W1 -> born_meanwhile(after_swap(W1#w{late = unforeseen(W1, S)}, first), S)
        catch throw:{abandon, Cause, Out, W1} -> abandon(Cause, Out, W1)
        end,
    forget_added(W),
    {Still, S3} = entry_back(S),
    Report = (report(W))#{entry => Still},
    ?AT(reporting),
    ?TELL(done),
    S3#s.guard ! {done, Report},
    {{ok, Report}, S3#s{new = undefined, old = [], result = Report}}.

%% What was started since the census, before anything is frozen.
newcomers(S0) ->
    Again = [P || K <- maps:values(S0#s.kinds), unsettled(K), P <- everyone(K)],
    Kinds = maps:map(fun(_, K) -> case unsettled(K) of true -> K#kind{pids = [], hib = [], n = 0, hibernated = 0, memory = 0}; false -> K end end, S0#s.kinds),
    S = S0#s{seen = maps:without(Again, S0#s.seen), kinds = Kinds, looked = now_us()},
    Ours = #{self() => [], S#s.guard => []},
    New = [P || P <- processes(), not is_map_key(P, S#s.seen), not is_map_key(P, Ours)],
    by_specs(lists:foldl(fun note/2, S, New)).

%% Who may be something else the next time it is looked at: before its first instruction a process shows nothing, one that
%% proc_lib started may enter the loop of a behaviour after all, and who only joined at the census has mounted since.
unsettled(#kind{behaviour = raw, host = proc_lib}) -> true;
unsettled(#kind{behaviour = proc_lib}) -> true;
unsettled(K) -> joins(K).

%% Whom the looks of the window do not take for known: those who may yet turn out to be affected, and who came since S0 while a
%% supervisor kept silent about its children.
not_yet_known(S0, S, #w{jobs = Jobs} = W) ->
    Changed = changed_modules(W),
    Turning = [P || #kind{behaviour = B, modules = Ms} = K <- maps:values(S#s.kinds), unsettled(K), not joins(K),
                    B =:= raw orelse affected(Ms, Changed), P <- everyone(K)],
    Silent = [P || S#s.silent =/= [], {P, Id} <- maps:to_list(S#s.seen), not is_map_key(P, S0#s.seen), not is_map_key(Id, Jobs)],
    S#s{seen = maps:without(Turning ++ Silent, S#s.seen)}.

%% Processes that a host of pages has started and not mounted or joined yet: whose page they become nobody sees before,
%% so where a page changes they are frozen as they are, and mount on the new code. Kinds are made for those to come.
joining(Mods, S) ->
    Hosts = [H || {_, H, _, Mark} <- pages(), exports(H, code_change, 3), lists:any(fun({M, _, _}) -> exports(M, Mark, 0) end, Mods)],
    #s{kinds = Kinds} = S1 = lists:foldl(fun(H, #s{kinds = Ks} = A) ->
        Entry = {H, init, 1},
        {Id, ByKey} = number({gen_server, H, [H], Entry}, A),
        K = maps:get(Id, Ks, #kind{id = Id, behaviour = gen_server, host = H, modules = [H], plain = [H], entry = Entry}),
        A#s{by_key = ByKey, kinds = Ks#{Id => K}}
    end, S, Hosts),
    {[{Id, keep, inside} || #kind{id = Id, host = H, entry = {H, init, 1}} <- maps:values(Kinds), lists:member(H, Hosts)], S1}.

%% Whoever of them was mounted or joined all the same before it was frozen has a state of the old code.
joined(#w{jobs = Jobs} = W, S) ->
    Changed = changed_modules(W),
    [case classify(P, S#s.hosts) of
         {_, Host, Mods, _, _, _, _} ->
             affected(Mods, Changed) andalso throw({abandon, newborn, [], W#w{detail = bin(io_lib:format("~p of ~p", [P, Host]))}});
         gone -> ok
     end || {P, Id} <- W#w.targets, #job{fate = keep} <- [maps:get(Id, Jobs)], joins(maps:get(Id, S#s.kinds))],
    ok.

joins(#kind{host = H, entry = {H, init, 1}}) -> lists:keymember(H, 2, pages());
joins(_) -> false.

%% A kind that had no process at the census, or managers whose handlers are others now, are in no job.
unplanned(S, W) ->
    Changed = changed_modules(W),
    Managers = [P || #kind{behaviour = gen_event} = K <- maps:values(S#s.kinds), P <- everyone(K)],
    #s{kinds = Now} = lists:foldl(fun note/2, S#s{kinds = maps:filter(fun(_, K) -> K#kind.behaviour =/= gen_event end, S#s.kinds)}, Managers),
    Known = fun(#kind{behaviour = gen_event, id = Id} = K) ->
                    is_map_key(Id, W#w.jobs) andalso everyone(K) -- everyone(maps:get(Id, S#s.kinds)) =:= [];
               (#kind{id = Id}) -> is_map_key(Id, W#w.jobs)
            end,
    case [K || #kind{behaviour = B, modules = Ms, n = N} = K <- maps:values(Now), N > 0, migrates(B), affected(Ms, Changed), not Known(K)] of
        [] -> ok;
        [#kind{host = Host} = K | _] ->
            throw({abandon, newborn, [], W#w{detail = bin(io_lib:format("~p of ~p", [hd(everyone(K)), Host]))}})
    end.

everyone(#kind{pids = Ps, hib = Hs}) -> Ps ++ Hs.

changed_modules(W) -> maps:from_list([{M, []} || {M, _, _} <- W#w.mods]).

affected(Mods, Changed) -> lists:any(fun(M) -> M =:= unknown orelse is_map_key(M, Changed) end, Mods).

migrates(B) -> lists:member(B, [gen_server, gen_statem, gen_event, special]).

new_window(#{modules := Mods, kinds := Kinds, budget_us := Budget, revert_us := Revert, in_flight := Limit} = Script, S) ->
    Changed = [M || {M, _, _} <- Mods],
    Bare = maps:from_list([{Id, job(Id, Fate, How, Changed, S)} || {Id, Fate, How} <- Kinds]),
    Modes = modes(Bare, Changed),
    Jobs = maps:map(fun(Id, J) -> J#job{mode = maps:get(Id, Modes, same)} end, Bare),
    Parents = lists:usort([P || {Id, _, _} <- Kinds, P <- maps:keys((maps:get(Id, S#s.kinds))#kind.parents), is_map_key(P, S#s.sups)]),
    Targets = [{P, Id} || {Id, _, _} <- Kinds, P <- (maps:get(Id, S#s.kinds))#kind.pids]
        ++ [{P, Id} || {Id, _, _} <- Kinds, P <- (maps:get(Id, S#s.kinds))#kind.hib],
    Asked = lists:usort([M || #job{fate = {migrate, Ms}} = J <- maps:values(Jobs), Asked <- Ms, M <- [told(Asked, J)]]),
    #w{pid = self(), hosts = S#s.hosts, dead = S#s.dead, guard = S#s.guard, script = Script, jobs = Jobs, mods = Mods, old = S#s.old,
       new = S#s.new, limit = Limit, budget = Budget, revert = Revert, targets = Targets, sups = [{P, sup} || P <- Parents],
       %% Made while everybody runs: what it needs may have to be loaded.
       vsns = maps:from_list([{M, vsn(M)} || M <- Asked]), outliving = outliving_drop()}.

job(Id, Fate, How, Changed, S) ->
    #kind{behaviour = B, host = H, modules = Ms} = maps:get(Id, S#s.kinds),
    %% A host that does not change hands on to a module that does, and its vsn says nothing.
    Told = case lists:member(H, Changed) orelse joins(maps:get(Id, S#s.kinds)) of
               true -> H;
               false -> case [M || M <- Ms, lists:member(M, Changed), erlang:module_loaded(M)] of [M | _] -> M; [] -> H end
           end,
    View = case (maps:get(Id, S#s.kinds))#kind.entry of
               {V, mount, 3} when H =:= 'Elixir.Phoenix.LiveView.Channel' -> V;
               _ -> none
           end,
    Shown = case B =:= special andalso Fate =/= keep andalso lists:member(H, Changed) of true -> states(H); false -> whole end,
    #job{behaviour = B, fate = Fate, how = How, host = H, told = Told, calls_back = exports(H, code_change, 4), view = View, shown = Shown}.

%% What each kind of machine whose module changes is in now, by kind.
modes(Jobs, Changed) ->
    Machines = [{Id, H} || {Id, #job{behaviour = gen_statem, host = H}} <- maps:to_list(Jobs), lists:member(H, Changed)],
    Said = callback_modes(lists:usort([H || {_, H} <- Machines])),
    maps:from_list([{Id, maps:get(H, Said)} || {Id, H} <- Machines]).

told(Asked, #job{behaviour = gen_event}) -> Asked;
told(_, #job{told = Told}) -> Told.

to_swap(W0, S) ->
    code_server_rests(W0),
    T0 = now_us(),
    %% Three quarters of the budget are for coming to rest and the rehearsal: they take half of a window that goes
    %% well, and giving up there costs nothing.
    W1 = W0#w{t0 = T0, deadline = T0 + W0#w.budget},
    Rest = T0 + W0#w.budget * 3 div 4,
    ok = watched(W1),
    step(freeze),
    Rows = maps:with(maps:keys(W1#w.jobs), S#s.rehearsals),
    W2 = freeze(W1#w.sups, Rows, Rest, W1),
    W3 = freeze(W2#w.targets, Rows, Rest, W2),
    step(newborns),
    W4 = newborns(3, Rows, Rest, S, W3),
    ok = joined(W4, S),
    step(rehearse_frozen),
    rehearse_frozen(Rows, Rest, W4),
    T1 = now_us(),
    W5 = W4#w{times = #{freeze => T1 - T0}},
    step(swap),
    case [M || {M, Md5, _} <- W5#w.mods, loaded_md5(M) =/= Md5] of
        [] -> ok;
        [Moved | _] -> throw({abandon, code_moved, [], W5#w{detail = bin(atom_to_list(Moved))}})
    end,
    driver_gone() andalso throw({abandon, driver_gone, [], W5}),
    code_server_rests(W5),
    case tell_guard(swapping, W5) of ok -> ok; dead -> throw({abandon, guard_died, [], W5}) end,
    %% Whoever was born since the freeze ended.
    [throw({abandon, newborn, [], W5#w{detail = bin(io_lib:format("~p of ~p", [P, Host]))}}) || {P, _, Host} <- unforeseen(W5, S)],
    ?AT(before_swap),
    ?TELL(swap),
    T2 = now_us(),
    case code:finish_loading(W5#w.new) of
        ok ->
            ?TELL({swapped, ok}),
            ?AT(after_swap),
            W5#w{swapped = true, times = (W5#w.times)#{swap => now_us() - T2}};
        {error, Why} ->
            ?TELL({swapped, refused}),
            throw({abandon, swap_refused, [], W5#w{detail = text(Why)}})
    end.

driver_gone() ->
    receive {nodedown, _} = Gone -> self() ! Gone, true after 0 -> false end.

%% The swap waits for the code server, and nothing can call it back from there: it must be idle before it is asked.
code_server_rests(W) ->
    %% One that has to be asked: from OTP 27 on the mode is not.
    {Pid, Mon} = spawn_monitor(code, get_path, []),
    receive {'DOWN', Mon, process, Pid, _} -> ok
    after ?CODE_SERVER_MS ->
        demonitor(Mon, [flush]),
        exit(Pid, kill),
        throw({abandon, code_server, [], W})
    end.

loaded_md5(M) ->
    case erlang:module_loaded(M) of true -> M:module_info(md5); false -> none end.

%% Before the swap nothing goes on without a guard that knows; after it the work is finished all the same.
watched(W) ->
    case tell_guard(freezing, W) of ok -> ok; dead -> throw({abandon, guard_died, [], W}) end.

tell_guard(_, #w{by = guard}) -> ok;
tell_guard(Phase, W) ->
    Mon = monitor(process, W#w.guard),
    ?AT(Phase),
    ?TELL({phase, Phase}),
    %% The lists are long and known since the freeze began, or not needed there.
    Short = case Phase of freezing -> W#w{frozen = []}; _ -> W#w{frozen = [], targets = known} end,
    W#w.guard ! {phase, Phase, {self(), Mon}, Short},
    receive
        {Mon, noted} -> demonitor(Mon, [flush]), ok;
        {'DOWN', Mon, process, _, _} -> dead
    end.

%% --- freeze, by deferring (design D8) ---

%% Who is migrated keeps its state in its own dictionary from here, and tries the new code_change on that very state:
%% behind the suspend, in the same turn of the process.
freeze(Targets, Rows, Deadline, W) -> freeze(Targets, Rows, Deadline, 1, W).

freeze(Targets, Rows, Deadline, Round, W0) ->
    Ref = erlang:unique_integer([positive]),
    Send = fun({Pid, Id} = T) -> suspend(Pid, Id, {Ref, T}, Rows, W0) end,
    Take = fun({Pid, Id} = T, Answer, {Frozen, Held, W}) ->
        ?TELL({frozen, Pid}),
        Now = now_us(),
        Now > Deadline andalso throw({abandon, budget, Targets, W#w{frozen = [{Pid, Id, Now} | Frozen]}}),
        case Answer of
            {tried, ok, Since} -> {[{Pid, Id, Since} | Frozen], Held, W};
            {tried, Fault, Since} -> {[{Pid, Id, Since} | Frozen], Held, tried(T, Fault, W)};
            _ -> {[{Pid, Id, Now} | Frozen], Held, W}
        end
    end,
    Idle = fun(Pending, Dead, {Frozen, Held, W}) ->
        W1 = died(Dead, W),
        now_us() > Deadline andalso out_of_time(Pending, W1#w{frozen = Frozen}),
        Since = maps:from_list([{P, T} || {P, _, T} <- Frozen]),
        case callees([P || {P, _} <- Pending], Since) of
            [] -> {without, [], {Frozen, Held, W1}};
            Callees ->
                Let = maps:from_list([{P, []} || P <- Callees]),
                {Again, Still} = lists:partition(fun({P, _, _}) -> is_map_key(P, Let) end, Frozen),
                [let_go(P, Id, {W#w.dead, ok}, fun ?MODULE:drop/1, W) || {P, Id, _} <- Again],
                Longest = lists:max([W#w.longest | [now_us() - T || {_, _, T} <- Again]]),
                {without, [], {Still, [{P, Id} || {P, Id, _} <- Again] ++ Held, W1#w{longest = Longest}}}
        end
    end,
    {Frozen, Held, W1} = flow(Targets, Ref, Send, Take, Idle, W0#w.limit, {W0#w.frozen, [], W0}),
    W = lists:foldl(fun({P, Fault}, A) -> tried({P, handler}, Fault, A) end, W1#w{frozen = Frozen}, handler_faults(Ref)),
    case Held of
        _ when W#w.nfaults > 0 -> throw({abandon, rehearsal, [], W});
        [] -> W;
        _ when Round < ?ROUNDS -> freeze(Held, Rows, Deadline, Round + 1, W);
        _ -> throw({abandon, budget, [], W#w{detail = <<"calls between the processes never come to rest">>}})
    end.

suspend(Pid, Id, {Ref, _} = Tag, Rows, #w{dead = Dead, jobs = Jobs}) ->
    Worker = self(),
    ?AT(suspending),
    ?TELL({suspend, Pid}),
    case {Jobs, Rows} of
        {#{Id := #job{fate = {migrate, _}, behaviour = gen_event}}, _} ->
            Mods = case Rows of #{Id := {_, in_place, L}} -> L; _ -> [] end,
            sys(Pid, {Dead, ok}, suspend),
            sys(Pid, {Dead, ok}, {replace_state, fun(H) -> stash_handler(H), try_handler(H, Worker, Ref, Mods), H end}),
            %% A manager without handlers runs none of that.
            sys(Pid, {Worker, Tag}, flyhot_knock);
        {#{Id := #job{fate = {migrate, _}}}, #{Id := {B, in_place, [{_, {Copy, Vsn}} | _]}}} ->
            sys(Pid, {Dead, ok}, suspend),
            sys(Pid, {Dead, ok}, {replace_state, fun(State) ->
                Since = stash(State),
                Worker ! {Tag, {tried, try_change(B, Copy, Vsn, State), Since}},
                State
            end});
        {#{Id := #job{fate = {migrate, _}}}, _} ->
            sys(Pid, {Dead, ok}, suspend),
            sys(Pid, {Dead, ok}, {replace_state, fun(State) -> Worker ! {Tag, {tried, ok, stash(State)}}, State end});
        _ -> sys(Pid, {Worker, Tag}, suspend)
    end.

tried({Pid, _}, {fault, Module, Text}, #w{faults = Faults, nfaults = N} = W) ->
    W#w{faults = case N < ?NAMED of true -> [{ref(Pid), Module, Text} | Faults]; false -> Faults end, nfaults = N + 1}.

%% Behind every suspend goes a drop and a resume, even where it was never answered: nothing can freeze late.
let_go(Pid, Id, From, Drop, W) ->
    ?AT(resuming),
    ?TELL({resume, Pid}),
    forget_state(Pid, Id, Drop, W),
    sys(Pid, From, resume).

forget_state(Pid, Id, Drop, #w{jobs = Jobs, dead = Dead}) ->
    case Jobs of
        #{Id := #job{fate = {migrate, _}}} -> sys(Pid, {Dead, ok}, {replace_state, Drop});
        _ -> ok
    end.

died(Dead, W) -> W#w{died = lists:foldl(fun(T, D) -> D#{element(1, T) => []} end, W#w.died, Dead)}.

out_of_time(Pending, W) ->
    Late = [straggler(P, what(T, W), W#w.t0) || {P, _} = T <- take(Pending, ?NAMED)],
    throw({abandon, budget, Pending, W#w{stragglers = Late}}).

what({_, Id}, #w{jobs = Jobs}) ->
    case Jobs of #{Id := #job{host = H}} -> H; _ -> supervisor end.

%% Frozen processes that the pending ones wait for, through any processes between (design D8).
callees(Pending, Frozen) -> callees(Pending, Frozen, #{}, []).

callees([], _, _, Found) -> Found;
callees([P | More], Frozen, Visited, Found) when is_map_key(P, Visited) -> callees(More, Frozen, Visited, Found);
callees([P | More], Frozen, Visited, Found) ->
    V = Visited#{P => []},
    case is_map_key(P, Frozen) of
        true -> callees(More, Frozen, V, [P | Found]);
        false ->
            Next = case process_info(P, monitors) of
                       {monitors, Ms} -> [Q || {process, N} <- Ms, Q <- local(N)];
                       undefined -> []
                   end,
            callees(Next ++ More, Frozen, V, Found)
    end.

local(P) when is_pid(P), node(P) =:= node() -> [P];
local({Name, Node}) when Node =:= node() ->
    case whereis(Name) of P when is_pid(P) -> [P]; _ -> [] end;
local(_) -> [].

%% --- newborns ---

newborns(Left, Rows, Deadline, S, W) ->
    Found = unforeseen(W, S),
    [throw({abandon, newborn, [], W#w{detail = bin(io_lib:format("~p of ~p", [P, Host]))}}) || {P, unknown, Host} <- Found],
    case [{P, Id} || {P, Id, _} <- Found] of
        [] -> W;
        _ when Left =:= 0 -> throw({abandon, newborn, [], W#w{detail = <<"processes of affected kinds keep being started">>}});
        Born ->
            %% A supervisor that had none of them before.
            Sups = [{Q, sup} || Q <- lists:usort(parents([P || {P, _} <- Born])), is_map_key(Q, S#s.sups)] -- W#w.sups,
            W1 = W#w{targets = W#w.targets ++ Born, born = maps:merge(W#w.born, maps:from_list(Born)), sups = W#w.sups ++ Sups},
            few_born(maps:keys(W1#w.born), W1#w.t0, W1),
            ok = watched(W1),
            newborns(Left - 1, Rows, Deadline, S, freeze(Born, Rows, Deadline, freeze(Sups, Rows, Deadline, W1)))
    end.

%% Processes of affected kinds that nobody knew: {Pid, KindId | unknown, Host}. What their specs name is not asked for
%% here. One that is affected by what it shows itself is of any kind that shows the same, if these are treated alike;
%% one that only shows a host of others is not known.
unforeseen(W, S) ->
    Changed = changed_modules(W),
    Alike = maps:fold(fun(Id, #job{fate = F, how = How, told = T}, A) ->
        #kind{behaviour = B, host = H, plain = Ms, entry = E} = maps:get(Id, S#s.kinds),
        Key = {B, H, Ms, E},
        case A of
            #{Key := {_, {F, How, T}}} -> A;
            #{Key := _} -> A#{Key := {unknown, none}};
            _ -> A#{Key => {Id, {F, How, T}}}
        end
    end, #{}, W#w.jobs),
    lists:append([case classify(P, S#s.hosts) of
                      gone -> [];
                      {B, Host, Mods, Entry, _, _, _} ->
                          %% One that only joins yet is known by that.
                          Known = affected(Mods, Changed) orelse joins(#kind{host = Host, entry = Entry}),
                          case {migrates(B), Known, Alike} of
                              {false, _, _} -> [];
                              {true, true, #{{B, Host, Mods, Entry} := {Id, _}}} -> [{P, Id, Host}];
                              {true, true, _} when Mods =:= [Host], not is_map_key(Host, Changed) -> [];
                              {true, false, #{{B, Host, Mods, Entry} := _}} -> [{P, unknown, Host}];
                              {true, true, _} -> [{P, unknown, Host}];
                              _ -> []
                          end
                  end || P <- processes(), not is_map_key(P, S#s.seen), not is_map_key(P, W#w.born), P =/= self(), P =/= W#w.guard]).

%% The same for the guard, which did not take the census: whoever is affected and in no list, with those born since.
unknown_to(W) ->
    Changed = changed_modules(W),
    Known = maps:from_list(W#w.targets),
    [{P, unknown, Host} || P <- processes(), not is_map_key(P, Known), {B, Host, Mods, _, _, _, _} <- [classify(P, W#w.hosts)],
                           migrates(B), affected(Mods, Changed)].

%% Who was born while the new code ran has a state of it, and the old code again.
born_meanwhile(#w{swapped = reverted, meanwhile = There} = W, S) ->
    Set = maps:from_list([{P, []} || P <- There]),
    Unknown = case S of guard -> unknown_to(W); _ -> unforeseen(W, S) end,
    W#w{late = [T || {P, _, _} = T <- Unknown, is_map_key(P, Set)]};
born_meanwhile(W, _) -> W.

%% Whoever starts children and is not frozen may start one between the last look and the swap, and is not held up: the VM of
%% OTP 29 never wakes one that erlang:suspend_process/2 suspends while it was to wake. Where that is likely the attempt is given up.
few_born(Born, Since, W) ->
    Frozen = maps:from_list(W#w.targets ++ W#w.sups),
    By = [Q || Q <- parents(Born), not is_map_key(Q, Frozen)],
    Ms = (now_us() - Since) div 1000,
    length(By) * 1000 > ?BIRTHS * Ms andalso
        throw({abandon, newborn, [], W#w{detail = bin(io_lib:format("~w in ~w ms, by ~w that is no supervisor", [length(By), Ms, hd(By)]))}}),
    ok.

%% One for each that has one.
parents(Pids) -> [Q || P <- Pids, {parent, Q} <- [process_info(P, parent)], is_pid(Q)].

%% What was not tried behind the suspend, because it might not have ended.
rehearse_frozen(Rows, Deadline, W) ->
    case maps:filter(fun(_, {_, How, _}) -> How =:= apart end, Rows) of
        Apart when map_size(Apart) =:= 0 -> ok;
        Apart ->
            Alive = [T || {P, _} = T <- W#w.targets, not is_map_key(P, W#w.died)],
            case run_rehearsal(Alive, Apart, W#w.limit, Deadline, W#w.dead) of
                #{failed := 0, silent := []} -> ok;
                #{failed := 0, silent := Late} -> throw({abandon, budget, [], W#w{stragglers = Late}});
                #{faults := Faults, failed := N} -> throw({abandon, rehearsal, [], W#w{faults = Faults, nfaults = N}})
            end
    end.

%% --- given up before the swap: nothing was changed ---

abandon(Cause, Out, W) ->
    ?TELL({abandon, Cause}),
    step(thaw),
    [let_go(P, Id, {W#w.dead, ok}, W#w.outliving, W) || {P, Id} <- Out],
    abandoned(Cause, W).

abandoned(Cause, W) -> (aftermath(finish_times(ask_again(thaw(W#w.frozen, W)))))#w{swapped = {abandoned, Cause}}.

%% ---------------------------------------------------------------------------------------------------------------
%% After the swap: by the worker, or by the guard in its place
%% ---------------------------------------------------------------------------------------------------------------

%% Mode: first, or again when the worker died somewhere in here: then every process that has a stash gets its old
%% state back before it is asked, so that nobody is migrated twice.
after_swap(W0, Mode) ->
    step(migrate),
    T0 = now_us(),
    W1 = migrate(W0, Mode),
    T1 = now_us(),
    step(prove),
    W1a = case W1#w.nfaults of 0 -> render(W1); _ -> W1 end,
    W2 = case W1a#w.nfaults of 0 -> tell_guard(proving, W1a), prove(W1a); _ -> W1a end,
    T2 = now_us(),
    W3 = case W2#w.nfaults of
             0 -> W2#w{swapped = upgraded};
             N -> step(undo), undo(W2#w{unproved = N > W1a#w.nfaults})
         end,
    T3 = now_us(),
    step(thaw),
    W4 = W3#w{times = (W3#w.times)#{migrate => T1 - T0, prove => T2 - T1, undo => T3 - T2}},
    tell_guard(thawing, W4),
    thaw_swapped(W4).

%% Modules that a reverted swap brought.
forget_added(#w{swapped = reverted, mods = Mods}) -> [begin code:delete(M), code:soft_purge(M) end || {M, none, _} <- Mods], ok;
forget_added(_) -> ok.

%% Supervisors last: they start nothing before everyone else runs.
thaw_swapped(W) ->
    {Sups, Others} = lists:partition(fun({_, Id, _}) -> Id =:= sup end, W#w.frozen),
    W1 = thaw(Others, W),
    [sys(Sup, {W#w.dead, ok}, {replace_state, fun(State) -> forgive(State, N) end}) || {Sup, N} <- maps:to_list(W1#w.bereft)],
    aftermath(finish_times(ask_again(thaw(Sups, W1)))).

%% A supervisor ends, and all its children with it, when it is told of more ended ones than it restarts in its time:
%% those that were ended here do not count. It hears of all of them before it is asked to count again. What ends all
%% the same, by a strategy that ends siblings say, is looked for once it has had time to: also where nobody was ended
%% here and somebody died. Whose child that was nothing tells any more, so every supervisor that was held is waited for.
aftermath(#w{ended = Ended, bereft = Bereft, died = Died} = W)
  when map_size(Ended) =:= 0, map_size(Bereft) =:= 0, map_size(Died) =:= 0 -> W;
aftermath(W) ->
    Ref = erlang:unique_integer([positive]),
    CountAgain = count_again(),
    [sys(Sup, {W#w.dead, ok}, {replace_state, CountAgain}) || Sup <- maps:keys(W#w.bereft)],
    Again = fun({Sup, _} = T) -> sys(Sup, {self(), {Ref, T}}, flyhot_knock) end,
    Deadline = now_us() + ?THAW_MS * 1000,
    Idle = fun(_, _, ok) -> case now_us() > Deadline of true -> {stop, ok}; false -> {without, [], ok} end end,
    ok = flow(W#w.sups, Ref, Again, fun(_, _, ok) -> ok end, Idle, W#w.limit, ok),
    receive after ?AFTERMATH_MS -> ok end,
    died([T || {P, _} = T <- W#w.targets, not is_map_key(P, W#w.ended), not is_process_alive(P)], W).

migrate(#w{jobs = Jobs, mods = Mods} = Told, Mode) ->
    W0 = Told#w{modes = modes(Jobs, [M || {M, _, _} <- Mods])},
    %% A gen_event is asked once per changed handler module.
    Todo = [{P, Id, M} || {P, Id} <- W0#w.targets, not is_map_key(P, W0#w.died), M <- asked((maps:get(Id, W0#w.jobs))#job.fate)],
    {InPart, Whole} = lists:partition(fun(T) -> shown(T, W0) =:= part end, Todo),
    %% The new code may show less than the old one did.
    Doubtful = [T || Mode =:= again, {_, Id, _} = T <- Whole, doubtful(maps:get(Id, Jobs))],
    Mode =:= again andalso [restore(P, (maps:get(Id, W0#w.jobs))#job.behaviour, W0) || {P, Id, _} <- Whole -- Doubtful],
    Ref = erlang:unique_integer([positive]),
    Down = maps:get(down, W0#w.script),
    Apart = maps:from_list([{Id, B} || {Id, #job{how = apart, behaviour = B}} <- maps:to_list(Jobs), not turned(Id, W0)]),
    Worker = self(),
    Send = fun({Pid, Id, M} = T) ->
        Vsn = vsn_arg(Down, maps:get(told(M, maps:get(Id, W0#w.jobs)), W0#w.vsns)),
        ?AT(migrating),
        ?TELL({migrate, Pid}),
        case Apart of
            #{Id := B} -> sys(Pid, {W0#w.dead, ok}, {replace_state, fun(State) -> change_apart(Worker, {Ref, T}, B, M, Vsn, State) end});
            _ -> sys(Pid, {answered_to(T, W0), {Ref, T}}, {change_code, M, Vsn, []})
        end
    end,
    Take = fun({Pid, _, _}, ok, {_, W}) -> ?TELL({migrated, Pid, ok}), {unheard(), W};
              ({Pid, Id, _}, {error, Why}, {_, W}) -> {unheard(), not_migrated(Pid, Id, text(without_arguments(Why)), W)};
              ({Pid, Id, _}, {fault, Text}, {_, W}) -> {unheard(), not_migrated(Pid, Id, Text, W)};
              ({Pid, Id, _}, Other, {_, W}) -> {unheard(), not_migrated(Pid, Id, text(without_arguments(Other)), W)}
           end,
    Idle = fun(Pending, Dead, {Last, W}) ->
        W1 = died(Dead, W),
        Unheard = unheard(Last),
        %% Past the budget only while answers still come in: giving up on a migration that gets on would cost more.
        case now_us() > W#w.deadline andalso too_long(Unheard, patience(250, W)) of
            %% Whoever waited behind these has still to be asked, or would be left on the old state.
            true -> {without, Pending, {unheard(), lists:foldl(fun({P, Id, _}, A) -> not_migrated(P, Id, <<"code_change did not return">>, A) end, W1, Pending)}};
            false -> {without, [], {Unheard, W1}}
        end
    end,
    W1 = lists:foldl(fun({P, Id, _}, A) -> not_migrated(P, Id, <<"whether it was asked before is not known">>, A) end, stranded(W0), Doubtful),
    {Again, Acc} = case Mode of
                       first -> {Todo, {unheard(), W1}};
                       again -> {Asked, A} = asked_before(InPart, Take, Idle, {unheard(), W1}), {Todo -- (Asked ++ Doubtful), A}
                   end,
    {_, W} = flow(Again, Ref, Send, Take, Idle, W0#w.limit, Acc),
    W.

doubtful(#job{behaviour = special, shown = whole, host = H}) -> states(H) =:= part;
doubtful(_) -> false.

shown({_, Id, _}, #w{jobs = Jobs}) -> (maps:get(Id, Jobs))#job.shown.

%% What sys shows in part cannot be given back before it is asked again, so whether it was asked must not be lost with
%% the worker: the guard is answered, and hands on. One that loses the guard now is ended as one that did not return.
answered_to(T, #w{by = worker, guard = Guard} = W) ->
    case shown(T, W) =:= part andalso is_process_alive(Guard) of true -> Guard; false -> self() end;
answered_to(_, _) -> self().

%% By the guard: what was asked is answered once what is queued behind it is.
asked_before(InPart, Take, Idle, {_, #w{answered = Answered} = W0} = Acc) ->
    {Known, Unknown} = lists:partition(fun(T) -> is_map_key(T, Answered) end, InPart),
    {_, W1} = lists:foldl(fun(T, A) -> Take(T, maps:get(T, Answered), A) end, Acc, Known),
    Ref = erlang:unique_integer([positive]),
    Knock = fun({P, _, _} = T) ->
        ?TELL({asked_before, P}),
        sys(P, {self(), {Ref, T}}, flyhot_knock)
    end,
    Late = fun(T, {Asked, {_, W} = A}) ->
        receive {{_, T}, Answer} -> {[T | Asked], Take(T, Answer, A)}
        after 0 -> {Asked, {unheard(), W}}
        end
    end,
    Knocked = fun(T, _, A) -> Late(T, A) end,
    Silent = fun(Pending, Dead, {Asked, {Last, _}} = A0) ->
        {AskedNow, {_, W}} = lists:foldl(Late, A0, Pending),
        Got = lists:sublist(AskedNow, length(AskedNow) - length(Asked)),
        {without, Left, A1} = Idle(Pending -- Got, Dead, {case Got of [] -> Last; _ -> unheard() end, W}),
        {without, Got ++ Left, {Left ++ Dead ++ AskedNow, A1}}
    end,
    flow(Unknown, Ref, Knock, Knocked, Silent, W0#w.limit, {Known, {unheard(), W1}}).

%% gen_statem takes a new callback_mode over in code_change alone.
stranded(#w{jobs = Jobs} = W) ->
    Turned = maps:filter(fun(Id, #job{fate = F}) -> F =:= keep andalso turned(Id, W) end, Jobs),
    lists:foldl(fun({P, Id}, A) -> failed(P, Id, <<"its callback_mode changed, and it has no code_change to take that over">>, A) end,
                W, [T || {P, Id} = T <- W#w.targets, is_map_key(Id, Turned), not is_map_key(P, W#w.died)]).

asked(keep) -> [];
asked({migrate, Ms}) -> Ms.

restore(Pid, gen_event, W) -> sys(Pid, {W#w.dead, ok}, {replace_state, fun ?MODULE:restore_handler/1});
restore(Pid, _, W) -> sys(Pid, {W#w.dead, ok}, {replace_state, fun ?MODULE:restore/1}).

%% Since when nobody has answered, and for how long: where the machine stands still nobody could, and of such a time no more
%% than ?PAUSE_US counts.
unheard() -> {now_us(), 0}.

unheard({Looked, Unheard}) ->
    Now = now_us(),
    {Now, Unheard + min(Now - Looked, ?PAUSE_US)}.

too_long({_, Unheard}, Ms) -> Unheard > Ms * 1000.

%% A process that waits for a helper is silent for as long as the helper may take.
patience(Ms, W) ->
    case [Id || {Id, #job{how = apart}} <- maps:to_list(W#w.jobs)] of [] -> Ms; _ -> Ms + ?APART_MS end.

%% Inside the process that migrates: its own code_change, in a helper that can be ended where the process could not.
%% Only what computes and knows nothing of the process it runs in is sent there, so the result is the same.
change_apart(Worker, Tag, B, Module, Vsn, State) ->
    {Pid, Mon} = spawn_monitor(fun() -> exit({?MODULE, changed(B, Module, Vsn, State)}) end),
    Result = receive
                 {'DOWN', Mon, process, _, {?MODULE, R}} -> R;
                 {'DOWN', Mon, process, _, Why} -> {fault, text(Why)}
             after ?APART_MS ->
                 exit(Pid, kill),
                 receive {'DOWN', Mon, process, _, {?MODULE, R}} -> R; {'DOWN', Mon, process, _, _} -> {fault, too_long()} end
             end,
    case Result of
        {ok, New} -> Worker ! {Tag, ok}, New;
        Fault -> Worker ! {Tag, Fault}, State
    end.

not_migrated(Pid, Id, Text, W) ->
    ?TELL({migrated, Pid, failed}),
    failed(Pid, Id, Text, W).

failed(Pid, Id, Text, W) ->
    #job{host = H} = maps:get(Id, W#w.jobs),
    Faults = case W#w.nfaults < ?NAMED of true -> [{ref(Pid), H, Text} | W#w.faults]; false -> W#w.faults end,
    W#w{faults = Faults, nfaults = W#w.nfaults + 1, failed = (W#w.failed)#{Pid => []}}.

%% --- prove (design D10) ---

prove(W) ->
    ByKind = lists:foldl(fun({P, Id}, Acc) ->
        case is_map_key(P, W#w.died) of
            true -> Acc;
            false ->
                case Acc of
                    #{Id := {N, L}} when N < 50 -> Acc#{Id := {N + 1, [P | L]}};
                    #{Id := _} -> Acc;
                    _ -> Acc#{Id => {1, [P]}}
                end
        end
    end, #{}, W#w.targets),
    prove_kinds([{Id, Ps} || {Id, {_, Ps}} <- maps:to_list(ByKind)], W).

%% What failed is known to the worker alone until it is undone: the first ends the proof.
prove_kinds([{Id, Ps} | More], W) ->
    case prove_kind(Id, Ps, W) of
        #w{nfaults = N} = W1 when N > W#w.nfaults -> W1;
        W1 -> prove_kinds(More, W1)
    end;
prove_kinds([], W) -> W.

prove_kind(Id, Pids, W) ->
    %% Only one whose mailbox is empty: it comes back before it handles anything that would have to be undone.
    case [P || P <- Pids, process_info(P, message_queue_len) =:= {message_queue_len, 0}] of
        [] -> W#w{unproven = [Id | W#w.unproven]};
        [P | _] ->
            Ref = erlang:unique_integer([positive]),
            ?AT(proving_one),
            ?TELL({prove, P}),
            #job{behaviour = B, fate = Fate} = maps:get(Id, W#w.jobs),
            Marks = migrates(B),
            %% Who keeps its state drops nothing at the thaw, and may come to this only when the agent has left.
            Unmark = case Fate of keep -> W#w.outliving; _ -> fun ?MODULE:unmark/1 end,
            Marks andalso sys(P, {W#w.dead, ok}, {replace_state, fun ?MODULE:mark/1}),
            sys(P, {W#w.dead, ok}, resume),
            sys(P, {self(), {Ref, P}}, suspend),
            W1 = proven(P, Id, Ref, ?PROVE_MS, W),
            WentOn = Marks andalso W1#w.nfaults =:= W#w.nfaults andalso not W1#w.seen_by_world andalso went_on(P, W#w.dead),
            Marks andalso sys(P, {W#w.dead, ok}, {replace_state, Unmark}),
            case WentOn of
                true -> W1#w{seen_by_world = true};
                false -> W1
            end
    end.

%% A message of that very instant may have come between resume and suspend, and whoever sent it may have its answer.
went_on(P, Dead) ->
    Ref = erlang:unique_integer([positive]),
    Worker = self(),
    sys(P, {Dead, ok}, {replace_state, fun(State) -> is_marked(State) orelse (Worker ! {went_on, Ref}), State end}),
    sys(P, {self(), Ref}, flyhot_knock),
    receive {Ref, _} -> receive {went_on, Ref} -> true after 0 -> false end
    after ?PROVE_MS -> true
    end.

proven(P, Id, Ref, Turns, W) ->
    receive {{Ref, P}, _} -> ?TELL({proven, P, ok}), W
    after case Turns of ?PROVE_MS -> 0; _ -> 1 end ->
        case is_process_alive(P) of
            false -> not_proven(P, Id, <<"died when it was let run for an instant">>, W);
            true when Turns rem ?LOOK_TURNS =:= 0 ->
                case waits_for_frozen(P, W) of
                    %% It may have come back meanwhile, and wait for its resume: its answer is here then.
                    true ->
                        ?TELL({proven, P, ok}),
                        receive {{Ref, P}, _} -> W after 0 -> W#w{seen_by_world = true} end;
                    false when Turns =:= 0 -> not_proven(P, Id, <<"did not come back after it was let run for an instant">>, W);
                    false -> proven(P, Id, Ref, Turns - 1, W)
                end;
            true -> proven(P, Id, Ref, Turns - 1, W)
        end
    end.

%% A message may have come after its mailbox was seen empty, and what it does with it is to call somebody who is frozen. It has
%% gone on, then; its suspend and what is behind it are handled when the other one answers, after the thaw.
waits_for_frozen(P, W) ->
    process_info(P, status) =:= {status, waiting}
        andalso callees([P], maps:from_list([{Q, []} || {Q, _, _} <- W#w.frozen, Q =/= P])) =/= [].

not_proven(P, Id, Text, W) ->
    ?TELL({proven, P, failed}),
    failed(P, Id, Text, W).
%% --- render: a template that reads what nobody put into the assigns crashes its LiveView after the thaw, at its next
%% change, and every other of that view with it ---

render(W) ->
    Views = maps:from_list([{Id, V} || {Id, #job{view = V, fate = {migrate, _}}} <- maps:to_list(W#w.jobs), V =/= none]),
    One = lists:foldl(fun({P, Id}, A) ->
        case is_map_key(Id, Views) andalso not is_map_key(Id, A) andalso not is_map_key(P, W#w.died) andalso is_process_alive(P) of
            true -> A#{Id => P};
            false -> A
        end
    end, #{}, case map_size(Views) of 0 -> []; _ -> W#w.targets end),
    Deadline = now_us() + ?RENDERS_MS * 1000,
    maps:fold(fun(Id, P, A) ->
        Left = min(?RENDER_MS, (Deadline - now_us()) div 1000),
        #{Id := View} = Views,
        Result = case Left > 0 of
                     true -> hd(within(Left, [fun() -> rendered(P, A#w.dead) end]));
                     false -> late
                 end,
        case Result of
            {ok, ok} -> A;
            {ok, no_socket} -> failed(P, Id, <<"its code_change left a state without a socket">>, A);
            {ok, {fault, Key, Text}} ->
                A#w{unrendered = [{ref(P), View, Key, Text} | A#w.unrendered], nfaults = A#w.nfaults + 1, failed = (A#w.failed)#{P => []}};
            {ok, {unknown, Why}} -> A#w{not_rendered = [{View, Why} | A#w.not_rendered]};
            {failed, Why} -> A#w{not_rendered = [{View, text(Why)} | A#w.not_rendered]};
            late -> A#w{not_rendered = [{View, bin(io_lib:format("it did not render within ~w ms", [?RENDER_MS]))} | A#w.not_rendered]}
        end
    end, W, One).

%% In a helper, on a copy of what the page is made from: the process itself only sends it.
rendered(P, Dead) ->
    Self = self(),
    Ref = make_ref(),
    sys(P, {Dead, ok}, {replace_state, fun(State) ->
        %% Templates read what on_mount put into the dictionary: a language, a tenant. What starts with a $ is of libraries,
        %% the stash among it.
        Self ! {Ref, socket(State), case get(?STASH) of {state, Old} -> socket(Old) =/= none; _ -> false end,
                [E || {K, _} = E <- get(), not (is_atom(K) andalso lists:prefix("$", atom_to_list(K)))]},
        State
    end}),
    receive
        {Ref, none, true, _} -> no_socket;
        {Ref, none, false, _} -> {unknown, <<"its state is not of the shape of LiveView 1.1">>};
        {Ref, #{view := View, assigns := Assigns} = Socket, _, Dictionary} ->
            [put(K, V) || {K, V} <- Dictionary],
            %% As Phoenix.LiveView.Renderer hands them to render/1; without a changed map everything is rendered.
            Shown = Socket#{assigns := #{'__struct__' => 'Elixir.Phoenix.LiveView.Socket.AssignsNotInSocket', '__assigns__' => Assigns}},
            Args = Assigns#{'__changed__' => nil, socket => Shown},
            Render = case Socket of
                         #{private := #{render_with := F}} when is_function(F, 1) -> F;
                         _ -> case exports(View, render, 1) of true -> fun View:render/1; false -> none end
                     end,
            case Render of
                none -> {unknown, <<"it exports no render/1">>};
                _ ->
                    try walk(Render(Args)) of
                        walked -> ok;
                        other -> {unknown, <<"its render/1 answers something else than a template">>}
                    catch
                        error:#{'__struct__' := 'Elixir.KeyError', key := Key} -> {fault, text(Key), <<>>};
                        error:{badkey, Key} -> {fault, text(Key), <<>>};
                        error:{badkey, Key, _} -> {fault, text(Key), <<>>};
                        C:R:St -> {fault, none, text({C, R, where(St)})}
                    end
            end
    end.

socket(#{socket := #{'__struct__' := 'Elixir.Phoenix.LiveView.Socket', view := V, assigns := #{}} = Socket}) when is_atom(V) -> Socket;
socket(_) -> none.

%% Every part of a template, as for a client that has nothing. A LiveComponent renders by its own state, which nobody
%% touched.
walk(#{'__struct__' := 'Elixir.Phoenix.LiveView.Rendered', dynamic := Dynamic}) when is_function(Dynamic, 1) ->
    [walk(Part) || Part <- Dynamic(false)],
    walked;
walk(#{'__struct__' := 'Elixir.Phoenix.LiveView.Comprehension', entries := Entries}) when is_list(Entries) ->
    [walk(Part) || {_, _, Render} <- Entries, Part <- Render(#{}, false)],
    walked;
walk(#{'__struct__' := 'Elixir.Phoenix.LiveView.Comprehension', dynamics := Rows}) when is_list(Rows) ->
    [walk(Part) || Row <- Rows, Part <- Row],
    walked;
walk(_) -> other.

%% --- undo ---

undo(#w{script = #{way_back := none}} = W) -> degrade(W);
%% What the world has seen is not taken back.
undo(#w{seen_by_world = true} = W) ->
    degrade(W#w{detail = <<"a process handled a message in the instant of its proof, and the world may have its answer">>});
undo(W) ->
    Changed = [M || {M, Md5, _} <- W#w.mods, Md5 =/= none],
    NewVsns = maps:map(fun(M, _) -> vsn(M) end, W#w.vsns),
    W1 = W#w{new_vsns = NewVsns},
    tell_guard(undoing, W1),
    undo(Changed, W1).

undo(Changed, W) ->
    Deadline = now_us() + W#w.revert,
    case left(Changed, W, Deadline) andalso purged(Changed, Deadline, 1) of
        false -> degrade(W);
        true ->
            ?AT(before_back),
            ?TELL(back),
            Is = try erlang:finish_loading(W#w.old) catch error:badarg -> badarg end,
            %% A worker that died in this very call has used the prepared code up, and its load is committed all the same.
            case Is =:= ok orelse [M || {M, Md5, _} <- W#w.mods, Md5 =/= none, loaded_md5(M) =/= Md5] =:= [] of
                true -> ?AT(after_back), put_back(W#w{meanwhile = processes()});
                false -> degrade(W)
            end
    end.

%% Purged one after the other, the first would be gone while somebody in the last makes it all impossible, and funs of it that
%% others hold with it. All who are not frozen have to have left the old code of each before the first is touched.
left(Mods, #w{targets = Targets}, Deadline) ->
    left(maps:from_keys(Mods, []), maps:from_keys([P || {P, _} <- Targets], []), depth(), Deadline, 1).

left(Set, Frozen, Depth, Deadline, Pause) ->
    Inside = fun(P) -> not is_map_key(P, Frozen) andalso (now_us() > Deadline orelse in_old_code(P, Set, Depth)) end,
    case lists:any(Inside, processes()) of
        false -> true;
        true ->
            case now_us() > Deadline of
                true -> false;
                false -> receive after Pause -> left(Set, Frozen, Depth, Deadline, min(Pause * 2, 50)) end
            end
    end.

%% Nearly nobody shows one of them, and nearly no stack is deep: only these are asked.
in_old_code(P, Set, Depth) ->
    Mods = case executed(P, Set, Depth) of
               {Shown, whole} -> Shown;
               {_, cut} -> maps:keys(Set)
           end,
    lists:any(fun(M) -> uses(P, M) end, Mods).

purged(Mods, Deadline, Pause) ->
    case purge_within(Mods, Deadline) of
        [] -> true;
        Left ->
            case now_us() > Deadline of
                true -> false;
                false -> receive after Pause -> purged(Left, Deadline, min(Pause * 2, 50)) end
            end
    end.

%% One module may take a tenth of a second on a large node: the deadline counts between modules too.
purge_within(Mods, Deadline) ->
    lists:filter(fun(M) -> now_us() > Deadline orelse not code:soft_purge(M) end, Mods).

%% Old code runs again: each migrated process gets the state it had, and answers a message queued behind that.
put_back(W0) ->
    Ref = erlang:unique_integer([positive]),
    Todo = [{P, Id} || {P, Id} <- W0#w.targets, not is_map_key(P, W0#w.died), (maps:get(Id, W0#w.jobs))#job.fate =/= keep],
    %% callback_mode is set by code_change alone: without one in the old module the process cannot be led back to it.
    {Lost, Back} = lists:partition(fun({_, Id}) ->
        #job{calls_back = CallsBack} = maps:get(Id, W0#w.jobs),
        not CallsBack andalso turned(Id, W0)
    end, Todo),
    Send = fun({P, Id} = T) ->
        ?AT(putting_back),
        ?TELL({put_back, P}),
        back(P, maps:get(Id, W0#w.jobs), maps:get(Id, W0#w.modes, same), {self(), {Ref, T}}, W0)
    end,
    %% One that cannot be led back to its callback_mode would run code that is written for the other one. Who failed on
    %% the way there is still in the old one.
    Take = fun({P, Id}, {error, _}, {_, A}) when not is_map_key(P, W0#w.failed) ->
                  {unheard(), case turned(Id, W0) of true -> end_processes([P], undoing, A); false -> A end};
              (_, _, {_, A}) -> {unheard(), A}
           end,
    Idle = fun(Pending, Dead, {Last, W}) ->
        W1 = died(Dead, W),
        Unheard = unheard(Last),
        case too_long(Unheard, patience(?PROVE_MS, W)) of
            %% One that never returned from its code_change cannot be called back from it; whoever waited behind it can.
            true -> {without, Pending, {unheard(), end_processes([P || {P, _} <- Pending], undoing, W1)}};
            false -> {without, [], {Unheard, W1}}
        end
    end,
    W1 = end_processes([P || {P, _} <- Lost], undoing, W0),
    {_, W} = flow(Back, Ref, Send, Take, Idle, W0#w.limit, {unheard(), W1}),
    Died = maps:from_list([{P, {ref(P), []}} || P <- maps:keys(W#w.failed), not is_process_alive(P)]),
    W#w{swapped = reverted, ended = maps:merge(Died, W#w.ended)}.

turned(Id, W) ->
    #job{mode = Old} = maps:get(Id, W#w.jobs),
    Old =/= maps:get(Id, W#w.modes, Old).

back(P, #job{behaviour = gen_statem, host = H, told = T, mode = Old}, New, From, W) when Old =/= New ->
    %% The down call sets the callback_mode, and may touch the data too: the state goes in before and after.
    restore(P, gen_statem, W),
    sys(P, From, {change_code, H, {down, maps:get(T, W#w.new_vsns, undefined)}, []}),
    restore(P, gen_statem, W);
back(P, #job{behaviour = B}, _, From, W) ->
    restore(P, B, W),
    sys(P, From, flyhot_knock).

degrade(W) ->
    W1 = end_processes(maps:keys(W#w.failed), degrading, W),
    W1#w{swapped = degraded}.

%% The guard knows whom before they end: it could not tell them from others that died, and would say upgraded.
end_processes([], _, W) -> W;
end_processes(Ps, Phase, W0) ->
    W = W0#w{failed = lists:foldl(fun(P, F) -> F#{P => []} end, W0#w.failed, Ps)},
    tell_guard(Phase, W),
    lists:foldl(fun end_process/2, W, Ps).

%% Its supervisor, frozen or not, starts it again on the code that is current then.
end_process(P, W) ->
    ?AT(ending),
    Tables = case map_size(W#w.ended) < ?NAMED of
                 true -> [text(ets:info(T, name)) || T <- ets:all(), ets:info(T, owner) =:= P, ets:info(T, heir) =:= none];
                 false -> []
             end,
    Who = {ref(P), Tables},
    Links = case process_info(P, links) of {links, L} -> L; undefined -> [] end,
    Mon = monitor(process, P),
    exit(P, kill),
    receive {'DOWN', Mon, process, _, _} -> ok end,
    ?TELL({ended, P}),
    Bereft = lists:foldl(fun(Sup, B) -> B#{Sup => maps:get(Sup, B, 0) + 1} end, W#w.bereft,
                         [Sup || Sup <- Links, lists:keymember(Sup, 1, W#w.sups)]),
    W#w{ended = (W#w.ended)#{P => Who}, bereft = Bereft}.

%% --- thaw ---

%% [{Pid, KindId, Since | unknown}]: drop before resume, for whoever may have a stash. Who does not answer is put aside.
thaw(Frozen, W0) ->
    is_map_key(thaw_from, W0#w.times) orelse count_from_now(),
    W1 = W0#w{times = first(thaw_from, now_us(), W0#w.times)},
    Ref = erlang:unique_integer([positive]),
    Todo = [T || {P, _, _} = T <- Frozen, not is_map_key(P, W1#w.died), not is_map_key(P, W1#w.ended)],
    Deadline = now_us() + ?THAW_MS * 1000,
    Drop = case W1#w.by of guard -> W1#w.outliving; worker -> fun ?MODULE:drop/1 end,
    Send = fun({Pid, Id, _} = T) -> let_go(Pid, Id, {self(), {Ref, T}}, Drop, W1) end,
    Take = fun(T, _, {_, W}) -> {unheard(), thawed(T, W)} end,
    Idle = fun(Pending, Dead, {Last, W}) ->
        W2 = died(Dead, W),
        Unheard = unheard(Last),
        case too_long(Unheard, ?SILENT_MS) orelse now_us() > Deadline of
            %% Their resume is queued all the same.
            true -> {without, Pending, {unheard(), W2#w{silent = Pending ++ W2#w.silent}}};
            false -> {without, [], {Unheard, W2}}
        end
    end,
    {_, W} = flow(Todo, Ref, Send, Take, Idle, W1#w.limit, {unheard(), W1}),
    W.

thawed({Pid, _, Since}, W) ->
    ?TELL({thawed, Pid}),
    case Since of unknown -> W; _ -> W#w{longest = max(W#w.longest, now_us() - Since)} end.

%% Who was silent, when everybody else has been let go. One that runs already answers a resume too.
ask_again(#w{silent = []} = W) -> W;
ask_again(#w{silent = Silent} = W0) ->
    Ref = erlang:unique_integer([positive]),
    Deadline = now_us() + ?THAW_MS * 1000,
    Send = fun({Pid, Id, _} = T) ->
        forget_state(Pid, Id, W0#w.outliving, W0),
        sys(Pid, {self(), {Ref, T}}, resume)
    end,
    Idle = fun(Pending, Dead, W) ->
        W1 = died(Dead, W),
        case now_us() > Deadline of
            true -> {without, Pending, W1#w{unresumed = [P || {P, _, _} <- Pending] ++ W1#w.unresumed}};
            false -> {without, [], W1}
        end
    end,
    flow(Silent, Ref, Send, fun(T, _, W) -> thawed(T, W) end, Idle, length(Silent), W0#w{silent = []}).

first(Key, Value, Map) -> case Map of #{Key := _} -> Map; _ -> Map#{Key => Value} end.

finish_times(W) ->
    Now = now_us(),
    Times = W#w.times,
    Thaw = Now - maps:get(thaw_from, Times, Now),
    W#w{times = Times#{thaw => Thaw, window => case W#w.t0 of undefined -> 0; T0 -> Now - T0 end}}.

report(W) ->
    {Asked, Kept} = lists:foldl(fun({P, Id}, {A, K}) ->
        case {is_map_key(P, W#w.died) orelse is_map_key(P, W#w.failed), maps:get(Id, W#w.jobs)} of
            {true, _} -> {A, K};
            {_, #job{fate = keep}} -> {A, K + 1};
            _ -> {A + 1, K}
        end
    end, {0, 0}, W#w.targets),
    Failed = map_size(W#w.failed),
    Died = map_size(maps:without(maps:keys(W#w.failed), maps:with([P || {P, _} <- W#w.targets], W#w.died))),
    {End, Migrated, Still} = case W#w.swapped of
                                 {abandoned, _} = A -> {A, 0, 0};
                                 reverted -> {reverted, 0, Asked + Kept};
                                 E -> {E, Asked, Kept}
                             end,
    T = fun(K) -> maps:get(K, W#w.times, 0) end,
    #{'end' => End, by_guard => W#w.by =:= guard, affected => length(W#w.targets), migrated => Migrated, kept => Still,
      failed => Failed, died => Died, held => length(W#w.sups), faults => lists:reverse(W#w.faults),
      ended => take(maps:values(W#w.ended), ?NAMED), stragglers => W#w.stragglers,
      unresumed => [ref(P) || P <- take(W#w.unresumed, ?NAMED)], late => [ref(P) || {P, _, _} <- take(W#w.late, ?NAMED)], detail => W#w.detail, window_us => T(window),
      unrendered => W#w.unrendered, not_rendered => take(W#w.not_rendered, ?NAMED), entry => [],
      not_proven => [(maps:get(Id, W#w.jobs))#job.host || Id <- W#w.unproven],
      longest_us => W#w.longest, unproved => W#w.unproved,
      phases => {T(freeze), T(swap), T(migrate), T(prove), T(undo), T(thaw)}}.

%% --- inside the process that migrates ---

%% Answers since when the process is frozen.
stash(State) -> put(?STASH, {state, State}), now_us().

stash_handler(Handler) ->
    put(?STASH, [Handler | case get(?STASH) of L when is_list(L) -> L; _ -> [] end]).

restore(State) ->
    case get(?STASH) of {state, Old} -> Old; _ -> State end.

%% Handlers come in the order in which they were stashed, and one may be there more than once: each has its own turn, and all of them
%% a further one when they are asked again.
restore_handler({Module, Id, _} = Handler) ->
    case get(?STASH) of
        L when is_list(L) ->
            case [H || {M, I, _} = H <- L, M =:= Module, I =:= Id] of
                [] -> Handler;
                Found -> put(?STASH, [lists:last(Found) | without_last(lists:last(Found), L)]), lists:last(Found)
            end;
        _ -> Handler
    end.

without_last(H, L) -> lists:reverse(lists:delete(H, lists:reverse(L))).

drop(State) -> erase(?STASH), erase(?MARK), State.

%% The same, slower by some microseconds, for those who may not be at rest: one that is so only when the agent is leaving may be
%% in time for the stash and too late for a fun of this module.
outliving_drop() -> stdlib_fun("fun(State) -> erase('$flyhot_stash'), erase('$flyhot_mark'), State end.").

%% A fun that needs nothing of this module.
stdlib_fun(Text) ->
    {ok, Tokens, _} = erl_scan:string(lists:flatten(Text)),
    {ok, Exprs} = erl_parse:parse_exprs(Tokens),
    {value, Fun, _} = erl_eval:exprs(Exprs, []),
    Fun.

%% The states as they were before the process was let run for an instant: one, or one for each handler.
mark(State) -> put(?MARK, [State | case get(?MARK) of L when is_list(L) -> L; _ -> [] end]), State.

unmark(State) -> erase(?MARK), State.

is_marked(State) ->
    case get(?MARK) of
        L when is_list(L) -> lists:member(State, L);
        _ -> true
    end.

%% --- inside a supervisor whose children were ended ---

%% N more restarts than its limit, until count_again/0 is run.
forgive(Sup, N) ->
    case {get(?STASH), restarts(Sup)} of
        {undefined, {Limit, History}} ->
            put(?STASH, {restarts, Limit, History}),
            limit(Sup, Limit + N);
        _ -> Sup
    end.

%% One that is still starting children reads it when the agent is gone.
count_again() ->
    stdlib_fun(
        "fun(Sup) ->
             case erase('$flyhot_stash') of
                 {restarts, Limit, History} when is_map(Sup) -> Sup#{max_restarts := Limit, restarts := History};
                 {restarts, Limit, {History, Number}} -> setelement(9, setelement(8, setelement(6, Sup, Limit), History), Number);
                 {restarts, Limit, History} -> setelement(8, setelement(6, Sup, Limit), History);
                 _ -> Sup
             end
         end.").

%% What supervisor (its record has 12 elements up to OTP 27, 16 in OTP 29, where the restarts' number is beside them)
%% and DynamicSupervisor keep about restarts: {Limit, History}. Of any other shape nothing is touched.
restarts(S) when element(1, S) =:= state, tuple_size(S) =:= 12, is_integer(element(6, S)), is_list(element(8, S)) ->
    {element(6, S), element(8, S)};
restarts(S) when element(1, S) =:= state, tuple_size(S) =:= 16, is_integer(element(6, S)), is_list(element(8, S)),
                 is_integer(element(9, S)) ->
    {element(6, S), {element(8, S), element(9, S)}};
restarts(#{'__struct__' := 'Elixir.DynamicSupervisor', max_restarts := Limit, restarts := History}) -> {Limit, History};
restarts(_) -> unknown.

limit(#{} = S, Limit) -> S#{max_restarts := Limit};
limit(S, Limit) -> setelement(6, S, Limit).

%% ---------------------------------------------------------------------------------------------------------------
%% Watch: how the node is, before a window and after it
%% ---------------------------------------------------------------------------------------------------------------

%% For so long, after which what was counted since the last thaw is told, or since the first watch. The counter stays until the
%% agent leaves.
watch(Ms, Driver) ->
    {Counters, Since, Counted} = counted_since(),
    case samples(Ms, now_us() + Ms * 1000, Driver, []) of
        gone -> {error, driver_gone};
        Samples ->
            {Queues, Memory} = lists:unzip(Samples),
            {ok, #{us => now_us() - Since, counts => list_to_tuple([N - M || {N, M} <- lists:zip(counts(Counters), Counted)]),
                   uncounted => why_uncounted(Counters), run_queue => median(Queues), schedulers => erlang:system_info(schedulers_online),
                   memory_most => lists:max(Memory), memory_last => lists:min(take(Memory, 1 + length(Memory) div 5))}}
    end.

counted_since() ->
    case get(?WATCH) of
        undefined ->
            Counters = counters:new(?FUNCTION_CLAUSE, []),
            Since = {Counters, now_us(), counts(Counters)},
            put(?WATCH, Since),
            %% The first of all filters, so that it sees what the node's own stop: Elixir's do with crash and supervisor reports.
            within(?LOGGER_MS, [fun() -> logger:add_primary_filter(?COUNTER, {fun ?MODULE:seen/2, Counters}) end]),
            Since;
        Since -> Since
    end.

%% Of what it came to while processes were frozen, nothing is said of the new code.
count_from_now() ->
    case get(?WATCH) of
        {Counters, _, _} -> put(?WATCH, {Counters, now_us(), counts(Counters)});
        undefined -> ok
    end.

%% Whoever of us leaves; the logger itself takes out one that fails.
count_no_more() ->
    case erase(?WATCH) =/= undefined orelse is_counter_there() of
        true -> within(?LOGGER_MS, [fun() -> logger:remove_primary_filter(?COUNTER) end]);
        false -> ok
    end.

is_counter_there() -> lists:keymember(?COUNTER, 1, maps:get(filters, logger:get_primary_config(), [])).

why_uncounted(Counters) ->
    #{level := Level, filters := Filters} = logger:get_primary_config(),
    case {lists:keyfind(?COUNTER, 1, Filters), logger:compare_levels(error, Level)} of
        {{_, {_, Counters}}, lt} -> bin(io_lib:format("the node's logger lets nothing pass below ~w", [Level]));
        {{_, {_, Counters}}, _} -> none;
        {_, _} -> <<"the counter is not among the filters of the node's logger any more">>
    end.

counts(Counters) -> [counters:get(Counters, At) || At <- lists:seq(1, ?FUNCTION_CLAUSE)].

samples(Ms, Until, Driver, Taken) ->
    Sample = {erlang:statistics(total_run_queue_lengths), erlang:memory(total)},
    Pause = max(?SAMPLE_MS, Ms div ?SAMPLES),
    receive
        {nodedown, Driver} = Down -> self() ! Down, gone
    after max(0, min(Pause, (Until - now_us()) div 1000)) ->
        case now_us() + 1000 > Until of
            true -> [Sample | Taken];
            false -> samples(Ms, Until, Driver, [Sample | Taken])
        end
    end.

median(Values) -> lists:nth(1 + length(Values) div 2, lists:sort(Values)).

%% Nothing of the event is kept or sent, and what cannot be made out is an error and nothing more.
seen(#{level := Level} = Event, Counters) when Level =:= error; Level =:= critical; Level =:= alert; Level =:= emergency ->
    counters:add(Counters, ?ERRORS, 1),
    try [counters:add(Counters, Sort, 1) || Sort <- sorts(Event)] catch _:_ -> ok end,
    ignore;
seen(_, _) -> ignore.

sorts(#{msg := {report, #{label := {proc_lib, crash}, report := [Info | _]}}}) ->
    {error_info, {_, Reason, _}} = lists:keyfind(error_info, 1, Info),
    [?CRASHES | cause(Reason)];
%% From Elixir 1.15 on a task has no crash report beside it.
sorts(#{msg := {report, #{label := {'Elixir.Task.Supervisor', terminating}, report := #{reason := Reason}}}}) ->
    [?CRASHES | cause(Reason)];
%% One that is not started again is not what is counted: its crash is.
sorts(#{msg := {report, #{label := {_, child_terminated}, report := Report}}}) ->
    {offender, Child} = lists:keyfind(offender, 1, Report),
    [?RESTARTS || lists:keyfind(restart_type, 1, Child) =/= {restart_type, temporary}];
sorts(#{msg := {_, [_, Reason]}, meta := #{error_logger := #{emulator := true}}}) -> [?CRASHES | cause(Reason)];
%% One that was caught and logged, as servers of requests do.
sorts(#{meta := #{crash_reason := Reason}}) -> [?CRASHES | cause(Reason)];
sorts(_) -> [].

%% As Erlang has it, or made an exception by Elixir.
cause({Reason, Stack}) when is_list(Stack) -> cause(Reason);
cause(undef) -> [?UNDEF];
cause({badfun, _}) -> [?BADFUN];
cause(function_clause) -> [?FUNCTION_CLAUSE];
cause(#{'__struct__' := 'Elixir.UndefinedFunctionError'}) -> [?UNDEF];
cause(#{'__struct__' := 'Elixir.BadFunctionError'}) -> [?BADFUN];
cause(#{'__struct__' := 'Elixir.FunctionClauseError'}) -> [?FUNCTION_CLAUSE];
cause(_) -> [].

%% ---------------------------------------------------------------------------------------------------------------
%% Guard
%% ---------------------------------------------------------------------------------------------------------------

-record(g, {worker, mon, w = none, phase = idle, timer, reductions = 0, result = none, waiting = [], gone = false,
            entry = [], answered = #{}}).

guard(Worker, Driver, Holder) ->
    register(flyhot_guard, self()),
    put(?HOLDER, Holder),
    put(?DRIVER, Driver),
    Mon = monitor(process, Worker),
    Worker ! {self(), ready},
    guard_loop(#g{worker = Worker, mon = Mon}).

guard_loop(#g{worker = Worker, mon = Mon} = G) ->
    receive
        {phase, Phase, From, W0} ->
            ?AT({noted, Phase}),
            ?TELL({noted, Phase}),
            answer(From, noted),
            W = case W0 of #w{targets = known} -> W0#w{targets = (G#g.w)#w.targets}; _ -> W0 end,
            guard_loop(G#g{w = W, phase = Phase, timer = arm(G, W), reductions = reductions(Worker)});
        {entry, From, Entry} ->
            answer(From, noted),
            guard_loop(G#g{entry = Entry});
        {{_, {_, _, _} = Asked} = Tag, Answer} when G#g.w =/= none ->
            ?AT(handing_on),
            Worker ! {Tag, Answer},
            guard_loop(G#g{answered = (G#g.answered)#{Asked => Answer}});
        {done, Report} ->
            disarm(G),
            guard_loop(G#g{w = none, phase = idle, result = Report, timer = undefined, answered = #{}});
        {deadline, T0} when G#g.phase =/= idle ->
            %% One that still gets on would only be made to begin again.
            case reductions(Worker) of
                R when R - G#g.reductions > ?PROGRESS ->
                    guard_loop(G#g{reductions = R, timer = erlang:send_after(?THAW_MS, self(), {deadline, T0})});
                _ -> exit(Worker, kill), guard_loop(G)
            end;
        {stop, Worker} -> ?TELL(stop), ?AT(stopping);
        {'DOWN', Mon, process, _, _} ->
            disarm(G),
            G1 = entry_too(take_over(G#g{gone = true})),
            count_no_more(),
            [guard_answer(From, G1) || From <- G1#g.waiting],
            guard_loop(G1#g{waiting = []});
        {result, From} when G#g.gone -> guard_answer(From, G), guard_loop(G);
        {result, From} -> guard_loop(G#g{waiting = [From | G#g.waiting]});
        {yield, {Pid, _} = From} ->
            case G#g.gone andalso is_process_alive(Pid) of
                true -> answer(From, leaving), forget();
                false -> answer(From, busy), guard_loop(G)
            end;
        _ -> guard_loop(G)
    after case G#g.gone of true -> ?RESULT_TTL_MS; false -> infinity end ->
        forget(),
        unload()
    end.

reductions(Pid) ->
    case process_info(Pid, reductions) of {reductions, R} -> R; undefined -> 0 end.

guard_answer(From, #g{result = none}) -> answer(From, {error, no_worker});
guard_answer(From, #g{result = Report}) -> answer(From, {ok, Report}).

%% Past every budget of the window the worker is stuck: the longest honest window is two budgets and a revert, with
%% views that do not render in it and listeners that do not come back behind it.
arm(#g{timer = undefined}, W) ->
    erlang:send_after((2 * W#w.budget + W#w.revert) div 1000 + ?THAW_MS + ?RENDERS_MS + ?ENTRY_MS, self(), {deadline, W#w.t0});
arm(#g{timer = Timer}, _) -> Timer.

disarm(#g{timer = undefined}) -> ok;
disarm(#g{timer = Timer}) -> erlang:cancel_timer(Timer).

%% After the thaw: a listener that hangs keeps nobody frozen.
entry_too(#g{entry = Entry, result = Result} = G) ->
    Still = resume_entry(Entry),
    G#g{entry = [], result = case Result of #{entry := _} -> Result#{entry := Still}; _ -> Result end}.

take_over(#g{phase = idle} = G) -> G;
take_over(#g{w = W, phase = Phase} = G) ->
    ?AT(take_over),
    ?TELL({take_over, Phase}),
    %% Only the worker knew who was frozen since when: everyone is let go.
    Frozen = [{P, Id, unknown} || {P, Id} <- W#w.targets ++ W#w.sups],
    W1 = W#w{by = guard, pid = self(), frozen = Frozen, deadline = now_us() + W#w.budget, answered = G#g.answered},
    %% The swap runs in the code server, which goes on with it when the worker is dead: this is answered after it.
    Phase =:= freezing orelse code:get_path(),
    OnTarget = lists:all(fun({M, _, Target}) -> loaded_md5(M) =:= Target end, W#w.mods),
    Undoing = W1#w{bereft = bereft(W1)},
    W2 = case {Phase, OnTarget} of
             {swapping, true} -> after_swap(W1#w{swapped = true, late = unknown_to(W1)}, again);
             %% Who was let run for an instant may have run on: nobody is migrated again or put back.
             {proving, true} ->
                 %% The worker may have marked one, and who keeps its state drops nothing at the thaw.
                 [sys(P, {W1#w.dead, ok}, {replace_state, W1#w.outliving}) || {P, Id} <- W1#w.targets,
                     #job{fate = keep, behaviour = B} <- [maps:get(Id, W1#w.jobs)], migrates(B)],
                 %% Which of them the worker had come to died with it.
                 thaw_swapped(W1#w{swapped = upgraded, unproven = lists:usort([Id || {_, Id} <- W1#w.targets])});
             {undoing, true} -> thaw_swapped(undo([M || {M, Md5, _} <- W1#w.mods, Md5 =/= none], Undoing));
             %% It does not know since when the old code is back.
             {undoing, false} -> thaw_swapped(put_back(Undoing#w{meanwhile = processes()}));
             {degrading, _} -> thaw_swapped(degrade(Undoing));
             {thawing, _} -> thaw_swapped(W1);
             _ -> abandoned(worker_died, W1)
         end,
    forget_added(W2),
    ?TELL(done),
    G#g{w = none, phase = idle, result = report(born_meanwhile(W2, guard))}.

%% Whom the worker ended before it died has no links to tell its supervisor by: each is forgiven as many as are gone.
bereft(W) ->
    case length([P || {P, _} <- W#w.targets, not is_process_alive(P)]) of
        0 -> #{};
        Gone -> maps:from_list([{Sup, Gone} || {Sup, sup} <- W#w.sups])
    end.

%% ---------------------------------------------------------------------------------------------------------------
%% Small things
%% ---------------------------------------------------------------------------------------------------------------

%% What each of these funs answers, {ok, _} | {failed, Why} | late, run beside each other in helpers that end with the
%% deadline, or with this process.
within(_, []) -> [];
within(Ms, Funs) ->
    Owner = self(),
    {Nurse, Mon} = spawn_monitor(fun() -> exit({within, nurse(Owner, Ms, Funs)}) end),
    receive
        {'DOWN', Mon, process, Nurse, {within, Results}} -> Results;
        {'DOWN', Mon, process, Nurse, Why} -> [{failed, Why} || _ <- Funs]
    end.

nurse(Owner, Ms, Funs) ->
    OwnerMon = monitor(process, Owner),
    Deadline = now_us() + Ms * 1000,
    Helpers = [spawn_monitor(fun() -> exit({within, try {ok, Fun()} catch _:Why -> {failed, Why} end}) end) || Fun <- Funs],
    [receive
         {'DOWN', Mon, process, _, {within, Result}} -> Result;
         {'DOWN', Mon, process, _, Why} -> {failed, Why};
         {'DOWN', OwnerMon, process, _, _} -> [exit(P, kill) || {P, _} <- Helpers], exit(normal)
     after max(0, (Deadline - now_us()) div 1000) ->
         exit(Helper, kill),
         late
     end || {Helper, Mon} <- Helpers].

sys(Pid, From, Request) -> Pid ! {system, From, Request}.

pids(Id, #s{kinds = Kinds}) -> everyone(maps:get(Id, Kinds)).

ref(Pid) ->
    {bin(pid_to_list(Pid)), case process_info(Pid, registered_name) of {registered_name, N} -> N; _ -> none end}.

straggler(Pid, Module, Since) ->
    {Stack, Queue} = case process_info(Pid, [current_stacktrace, message_queue_len]) of
                         [{_, St}, {_, Q}] -> {[bin(io_lib:format("~p:~tp/~p", [M, F, A])) || {M, F, A, _} <- lists:sublist(St, 5)], Q};
                         undefined -> {[], 0}
                     end,
    {ref(Pid), Module, Stack, Queue, now_us() - Since}.

%% A pid that no longer exists: an answer sent there is dropped without being copied (design D11).
dead_pid() ->
    {Pid, Mon} = spawn_monitor(erlang, node, []),
    receive {'DOWN', Mon, process, _, _} -> Pid end.

now_us() -> erlang:monotonic_time(microsecond).

take(L, N) -> lists:sublist(L, N).

bin(T) -> unicode:characters_to_binary(T).

text(Term) ->
    bin(string:slice(io_lib:format("~0tP", [Term, 24]), 0, ?TEXT)).

-ifdef(FAULTS).
%% ---------------------------------------------------------------------------------------------------------------
%% Faults and the trace, for the tests
%% ---------------------------------------------------------------------------------------------------------------

%% The environment `planned` of the application flyhot_faults has [{worker | guard, Point, Nth, fail | die | {delay, Ms}}]:
%% what befalls that process when it passes the point for the Nth time.
strike(Point) ->
    Planned = application:get_env(flyhot_faults, planned, []),
    Passed = case get('$flyhot_passed') of undefined -> #{}; M -> M end,
    Times = maps:get(Point, Passed, 0) + 1,
    put('$flyhot_passed', Passed#{Point => Times}),
    Me = actor(),
    [befall(Point, What) || {Who, At, Nth, What} <- Planned, Who =:= Me, At =:= Point, Nth =:= Times],
    ok.

befall(Point, What) ->
    to_tracer({struck, actor(), Point, What}),
    case What of
        fail -> error(flyhot_fault);
        die -> exit(self(), kill);
        %% The whole VM, as a power cut ends it.
        halt -> os:cmd("kill -9 " ++ os:getpid());
        {delay, Ms} -> receive after Ms -> ok end
    end.

%% {told, Actor, Event} goes to whoever is registered for it.
tell(Event) -> to_tracer({told, actor(), Event}).

to_tracer(Message) ->
    case whereis(flyhot_trace) of
        undefined -> ok;
        Pid -> Pid ! Message, ok
    end.

actor() ->
    case whereis(flyhot_guard) =:= self() of true -> guard; false -> worker end.
-endif.
