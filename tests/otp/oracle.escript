#!/usr/bin/env escript
%% -*- erlang -*-
%%! +S 1:1 +A 1 -noshell -kernel logger_level none
%%
%% What OTP itself does: reads scenarios on standard input, plays them with real supervisors, and prints their traces.
%% The language is that of mlports.testing.simulation.scenario, and so is the trace, but for what nobody asks of it:
%% a scenario always begins with its name and closes with `end`.
%%
%% One scheduler, so that what happens in one order here happens in that order every time. Three kinds of processes
%% besides the tree: the player (this one), which is the root's parent; the ledger, which numbers every process of the
%% tree, watches it, and keeps the log; and the logger's handler, which runs in the supervisors.
-module(oracle).
-mode(compile).
-export([main/1, init/1, birth/2, birth/3, supervisor_birth/1, log/2]).

main(_) ->
    ok = io:setopts([binary, {encoding, utf8}]),
    ok = logger:remove_handler(default),
    ok = logger:set_primary_config(level, error),
    ok = logger:add_handler(oracle, ?MODULE, #{}),
    process_flag(trap_exit, true),
    play_all(),
    erlang:halt(0, [{flush, true}]).

play_all() ->
    case next_command() of
        eof -> ok;
        [<<"scenario">> | Name] -> play(Name), play_all()
    end.

%% The words of the next line that has any.
next_command() ->
    case io:get_line("") of
        eof -> eof;
        Line ->
            [Text | _] = binary:split(Line, <<"#">>),
            case binary:split(Text, [<<" ">>, <<"\t">>, <<"\n">>, <<"\r">>], [global, trim_all]) of
                [] -> next_command();
                Words -> Words
            end
    end.

play(Name) ->
    say(["=== ", spaced(Name)]),
    Ledger = spawn_link(fun() -> register(ledger, self()), ledger(#{log => [], live => #{}, born => #{}, last => #{},
                                                                   plans => #{}, families => #{}, waiting => []}) end),
    await(fun() -> whereis(ledger) =:= Ledger end),
    commands(next_command(), #{root_id => none, root => none}),
    unlink(Ledger),
    exit(Ledger, kill),
    await(fun() -> whereis(ledger) =:= undefined end),
    forget_messages(),
    say("--- end").

await(Condition) ->
    case Condition() of
        true -> ok;
        false -> receive after 1 -> await(Condition) end
    end.

forget_messages() -> receive _ -> forget_messages() after 0 -> ok end.

commands([<<"end">>], State) -> stop(State);
commands(Words, State) -> Next = command(Words, State), commands(next_command(), Next).

stop(#{root := none}) -> ok;
stop(#{root := Root}) ->
    say("> stop"),
    case ask({is_live, Root}) of
        true -> exit(Root, shutdown), ask({until_gone, Root});
        false -> ok
    end,
    print_log().

%% --- Commands that make the tree

command([<<"sup">>, Id, Parent, Strategy, Intensity, Period, Auto | Own], State) ->
    Flags = #{strategy => atom(Strategy), intensity => number(Intensity), period => number(Period),
              auto_shutdown => atom(Auto)},
    ask({family, atom(Id), Flags}),
    case Parent of
        <<"-">> -> State#{root_id := atom(Id)};
        _ ->
            [Restart, Shutdown, Significant] = case Own of [] -> [<<"permanent">>, <<"infinity">>, <<"false">>]; _ -> Own end,
            ask({member, atom(Parent), #{id => atom(Id), start => {?MODULE, supervisor_birth, [atom(Id)]},
                                         restart => atom(Restart), shutdown => shutdown(Shutdown),
                                         significant => atom(Significant), type => supervisor}}),
            State
    end;
command([<<"worker">>, Id, Parent | Rest], State) ->
    {#{strategy := Strategy}, _} = ask({family, atom(Parent)}),
    Spec = worker_spec(Id, Rest),
    #{start := {_, _, [_, Manners]}} = Spec,
    ask({member, atom(Parent), case Strategy of
        simple_one_for_one -> Spec#{start := {?MODULE, birth, [{under, atom(Parent)}, Manners]}};
        _ -> Spec
    end}),
    State;
command([<<"go">>], #{root_id := Id} = State) ->
    Outcome = supervisor_birth(Id),
    print_log(),
    case Outcome of
        {ok, Root} -> say_state(State#{root := Root});
        {error, Reason} -> say(["root_start_error ", text(Reason)]), State;
        ignore -> say("root_ignore"), State
    end;

%% --- Commands to a tree

command([<<"fail">>, Id, N, Mode] = Words, #{root := none} = State) ->
    say(["> ", spaced(Words)]),
    ask({plan, atom(Id), {number(N), atom(Mode)}}),
    State;
command(Words, #{root := none} = State) ->
    say(["> ", spaced(Words)]), say("no_root"), State;
command(Words, #{root := Root} = State) ->
    say(["> ", spaced(Words)]),
    Result = act(Words),
    until_calm(Root, none),
    print_log(),
    Result =:= none orelse say(["result ", Result]),
    say_state(State).

act([<<"exit">>, Id, Reason]) -> bring_down(atom(Id), Reason);
act([<<"burst">> | Items]) ->
    Deaths = [{atom(Id), Reason} || Item <- Items, [Id, Reason] <- [binary:split(Item, <<":">>)]],
    case [Pid || {Id, _} <- Deaths, Pid <- [ask({live, Id})], is_pid(Pid)] of
        [] -> "not_running";
        [First | _] ->
            Supervisor = ask({parent, First}),
            ok = sys:suspend(Supervisor),
            [bring_down(Id, Reason) || {Id, Reason} <- Deaths],
            try sys:resume(Supervisor) catch exit:_ -> ok end,
            none
    end;
act([<<"fail">>, Id, N, Mode]) -> ask({plan, atom(Id), {number(N), atom(Mode)}}), none;
act([<<"wait">>, Milliseconds]) -> timer:sleep(number(Milliseconds)), none;
act([<<"gated">>, Id, Reason | Rest]) ->
    case ask({live, atom(Id)}) of
        none -> "not_running";
        Pid ->
            Supervisor = ask({parent, Pid}),
            Calls = between_bars(Rest),
            ask({plan, atom(Id), {gate, self()}}),
            bring_down(atom(Id), Reason),
            case held(Supervisor, 300) of
                none -> ask({no_gate, atom(Id)}), "no_restart_attempt";
                Starter ->
                    %% All of them are in its mailbox before it goes on.
                    Sent = [{Call, gen_server:send_request(Supervisor, request(Call))} || Call <- Calls],
                    Starter ! go_on,
                    lists:join("; ", [[spaced(Call), " -> ", arrived(Call, Request)] || {Call, Request} <- Sent])
            end
    end;
act([_, Supervisor | _] = Call) ->
    case ask({live, atom(Supervisor)}) of
        none -> "no_sup";
        Pid ->
            case ask({kind, Pid}) of
                worker -> "no_sup";
                supervisor ->
                    try told(Call, gen_server:call(Pid, request(Call), 20000))
                    catch exit:{Reason, _} -> ["call_exit ", text(Reason)]
                    end
            end
    end.

bring_down(Id, How) ->
    case ask({live, Id}) of
        none -> "not_running";
        Pid ->
            case How =/= <<"kill">> andalso ask({kind, Pid}) of
                worker -> Pid ! {end_with, reason(How)};
                _ -> exit(Pid, kill)
            end,
            ask({until_gone, Pid}),
            none
    end.

%% The process that is held in the gated start. A supervisor that answers and is about to restart nobody will not start
%% it any more: the exit came before the question. One that does not answer may have died, and be restarted itself.
held(Supervisor, Patience) -> held(Supervisor, gen_server:send_request(Supervisor, which_children), Patience).

held(Supervisor, Question, Patience) ->
    receive
        {held, Starter} -> Starter;
        Message ->
            case gen_server:check_response(Message, Question) of
                {reply, Children} ->
                    case [Id || {Id, restarting, _, _} <- Children] of
                        [] -> none;
                        _ -> held(Supervisor, Patience)
                    end;
                _ -> held(Supervisor, Question, Patience)
            end
    after Patience -> none
    end.

between_bars(Words) ->
    case lists:splitwith(fun(Word) -> Word =/= <<"|">> end, Words) of
        {Call, []} -> [Call || Call =/= []];
        {[], [_ | Rest]} -> between_bars(Rest);
        {Call, [_ | Rest]} -> [Call | between_bars(Rest)]
    end.

arrived(Call, Request) ->
    case gen_server:receive_response(Request, 10000) of
        {reply, Reply} -> told(Call, Reply);
        {error, _} -> "sup_down";
        timeout -> "timeout"
    end.

%% --- Calls and their results

request([<<"start_child">>, _, Id | Rest]) -> {start_child, worker_spec(Id, Rest)};
request([<<"start_dyn">>, _, Id]) -> {start_child, [atom(Id)]};
request([<<"terminate">>, Supervisor, Id]) ->
    Named = case ask({family, atom(Supervisor)}) of
        {#{strategy := simple_one_for_one}, _} -> ask({last, atom(Id)});
        _ -> none
    end,
    {terminate_child, case Named of none -> atom(Id); Pid -> Pid end};
request([<<"terminate_id">>, _, Id]) -> {terminate_child, atom(Id)};
request([<<"restart">>, _, Id]) -> {restart_child, atom(Id)};
request([<<"delete">>, _, Id]) -> {delete_child, atom(Id)};
request([<<"which">>, _]) -> which_children;
request([<<"count">>, _]) -> count_children.

told([<<"which">> | _], Children) ->
    Shown = [shown(Child) || Child <- Children],
    spaced(case Children of [{undefined, _, _, _} | _] -> lists:sort(Shown); _ -> Shown end);
told([<<"count">> | _], Counts) -> spaced([[atom_to_list(What), "=", integer_to_list(N)] || {What, N} <- Counts]);
told(_, {ok, Pid}) when is_pid(Pid) -> ["ok ", name(Pid)];
told(_, {ok, Other}) -> ["ok ", text(Other)];
told(_, {error, {already_started, Pid}}) when is_pid(Pid) -> ["error already_started ", name(Pid)];
told(_, {error, {Reason, Child}}) when element(1, Child) =:= child -> ["error ", text({Reason, child})];
told(_, {error, Reason}) -> ["error ", text(Reason)];
told(_, Other) -> text(Other).

shown({_, Pid, Type, _}) when is_pid(Pid) -> lists:flatten([name(Pid), "/", atom_to_list(Type)]);
shown({Id, What, Type, _}) ->
    Shown = case Id of undefined -> "?"; _ -> atom_to_list(Id) end,
    lists:flatten([Shown, "=", atom_to_list(What), "/", atom_to_list(Type)]).

%% --- The state of the tree

say_state(#{root := Root} = State) ->
    case ask({is_live, Root}) of
        true -> say(["state ", tree(Root)]), State;
        false -> say("state root_dead"), State#{root := none}
    end.

tree(Supervisor) ->
    Children = case supervisor:which_children(Supervisor) of
        [{undefined, _, _, _} | _] = Simple -> lists:sort(fun(A, B) -> shown(A) =< shown(B) end, Simple);
        Reversed -> lists:reverse(Reversed)
    end,
    [name(Supervisor), "[", spaced([branch(Child) || Child <- Children]), "]"].

branch({_, Pid, supervisor, _}) when is_pid(Pid) -> tree(Pid);
branch({_, Pid, worker, _}) when is_pid(Pid) -> name(Pid);
branch({Id, What, _, _}) -> [atom_to_list(Id), "=", atom_to_list(What)].

%% Calm is a tree that looks the same twice, with every supervisor answering and nobody dead or about to be restarted.
until_calm(Root, Before) ->
    case ask({is_live, Root}) of
        false -> ok;
        true ->
            case look(Root) of
                restless -> receive after 1 -> until_calm(Root, none) end;
                Before -> ok;
                Now -> until_calm(Root, Now)
            end
    end.

look(Supervisor) ->
    try [look_at(Child) || Child <- gen_server:call(Supervisor, which_children, infinity)] of
        Seen -> case lists:member(restless, Seen) of true -> restless; false -> {Supervisor, Seen} end
    catch exit:_ -> restless
    end.

look_at({_, restarting, _, _}) -> restless;
look_at({Id, undefined, _, _}) -> Id;
look_at({_, Pid, Type, _}) ->
    case {ask({is_live, Pid}), Type} of
        {false, _} -> restless;
        {true, supervisor} -> look(Pid);
        {true, worker} -> Pid
    end.

%% --- What runs in the supervisors of the tree

supervisor_birth(Id) ->
    case ask({may_start, Id}) of
        yes ->
            Outcome = supervisor:start_link(?MODULE, Id),
            case Outcome of
                {ok, Pid} -> ask({note, ["sup_up ", name(Pid)]});
                {error, Reason} -> ask({note, ["sup_fail ", atom_to_list(Id), " ", text(Reason)]})
            end,
            Outcome;
        Obstacle -> hindered(Obstacle)
    end.

init(Id) ->
    Parent = hd(get('$ancestors')),
    ask({born, self(), #{id => Id, kind => supervisor, parent => Parent, group => none}}),
    {Flags, Specs} = ask({family, Id}),
    {ok, {Flags, Specs}}.

birth(Id, Manners) -> birth_of(Id, Manners, none).
birth({under, Group}, Manners, Id) -> birth_of(Id, Manners, Group).

birth_of(Id, Manners, Group) ->
    case ask({may_start, Id}) of
        yes ->
            Supervisor = self(),
            %% It is told of an exit of its supervisor only once it traps exits.
            Pid = spawn_link(fun() -> process_flag(trap_exit, true), Supervisor ! {ready, self()}, live(Supervisor, Manners) end),
            receive {ready, Pid} -> ok end,
            ask({born, Pid, #{id => Id, kind => worker, parent => Supervisor, group => Group}}),
            {ok, Pid};
        Obstacle -> hindered(Obstacle)
    end.

hindered(error) -> {error, start_failed};
hindered(ignore) -> ignore;
hindered(raise) -> exit(boom);
hindered({gate, Player}) -> Player ! {held, self()}, receive go_on -> {error, gated} end.

live(Supervisor, Manners) ->
    receive
        {end_with, Reason} -> exit(Reason);
        {'EXIT', Supervisor, _} when Manners =:= stubborn -> live(Supervisor, Manners);
        {'EXIT', Supervisor, Reason} ->
            case Manners of
                {reply, Other} -> exit(Other);
                {slow, Milliseconds} -> receive after Milliseconds -> exit(Reason) end;
                none -> exit(Reason)
            end
    end.

log(#{msg := {report, #{label := {supervisor, What}, report := Report}}}, _) when What =/= progress ->
    Offender = proplists:get_value(offender, Report),
    ask({note, ["report ", atom_to_list(What), " ", text(proplists:get_value(id, Offender)), " ",
                text(proplists:get_value(reason, Report))]});
log(_, _) -> ok.

%% --- The ledger

ask(Question) ->
    Reference = make_ref(),
    ledger ! {ask, self(), Reference, Question},
    receive {Reference, Answer} -> Answer end.

ledger(State) ->
    receive
        {'DOWN', _, process, Pid, Reason} -> ledger(buried(Pid, Reason, State));
        {ask, From, Reference, Question} ->
            %% Who is dead by now was dead before this was asked.
            case answer(Question, {From, Reference}, all_buried(State)) of
                {later, Next} -> ledger(Next);
                {Answer, Next} -> From ! {Reference, Answer}, ledger(Next)
            end
    end.

all_buried(#{live := Live} = State) ->
    case lists:all(fun is_process_alive/1, maps:keys(Live)) of
        true -> State;
        false -> receive {'DOWN', _, process, Pid, Reason} -> all_buried(buried(Pid, Reason, State)) end
    end.

buried(Pid, Reason, #{live := Live, log := Log, waiting := Waiting} = State) ->
    #{Pid := #{group := Group, name := Name}} = Live,
    {Gone, Still} = lists:partition(fun({Whom, _}) -> Whom =:= Pid end, Waiting),
    [From ! {Reference, gone} || {_, {From, Reference}} <- Gone],
    State#{live := maps:remove(Pid, Live), waiting := Still,
           log := [{Group, lists:flatten(["exit ", Name, " ", text(Reason)])} | Log],
           {dead, Pid} => maps:get(Pid, Live)}.

answer({family, Id, Flags}, _, #{families := Families} = State) -> {ok, State#{families := Families#{Id => {Flags, []}}}};
answer({member, Id, Spec}, _, #{families := Families} = State) ->
    {Flags, Specs} = maps:get(Id, Families),
    {ok, State#{families := Families#{Id := {Flags, Specs ++ [Spec]}}}};
answer({family, Id}, _, #{families := Families} = State) -> {maps:get(Id, Families, none), State};
answer({plan, Id, {gate, Player}}, _, #{plans := Plans} = State) -> {ok, State#{plans := Plans#{{gate, Id} => Player}}};
answer({plan, Id, Failures}, _, #{plans := Plans} = State) -> {ok, State#{plans := Plans#{Id => Failures}}};
answer({no_gate, Id}, _, #{plans := Plans} = State) -> {ok, State#{plans := maps:remove({gate, Id}, Plans)}};
answer({may_start, Id}, _, #{plans := Plans} = State) ->
    case {maps:find({gate, Id}, Plans), maps:get(Id, Plans, {0, none})} of
        {{ok, Player}, _} ->
            {{gate, Player}, noted(["start_fail ", atom_to_list(Id), " gated"], State#{plans := maps:remove({gate, Id}, Plans)})};
        {error, {N, Mode}} when N > 0 ->
            {Mode, noted(["start_fail ", atom_to_list(Id), " ", atom_to_list(Mode)], State#{plans := Plans#{Id := {N - 1, Mode}}})};
        _ -> {yes, State}
    end;
answer({born, Pid, #{id := Id, kind := Kind} = Life}, _, #{live := Live, born := Born, last := Last} = State) ->
    monitor(process, Pid),
    Number = maps:get(Id, Born, 0) + 1,
    Name = lists:flatten([atom_to_list(Id), "#", integer_to_list(Number)]),
    Verb = case Kind of worker -> "start "; supervisor -> "sup_init " end,
    {ok, noted([Verb, Name], State#{live := Live#{Pid => Life#{name => Name}}, born := Born#{Id => Number},
                                    last := Last#{Id => Pid}})};
answer({note, Text}, _, State) -> {ok, noted(Text, State)};
answer(take_log, _, #{log := Log} = State) -> {lists:reverse(Log), State#{log := []}};
answer({last, Id}, _, #{last := Last} = State) -> {maps:get(Id, Last, none), State};
answer({live, Id}, _, #{last := Last, live := Live} = State) ->
    Pid = maps:get(Id, Last, none),
    {case is_map_key(Pid, Live) of true -> Pid; false -> none end, State};
answer({is_live, Pid}, _, #{live := Live} = State) -> {is_map_key(Pid, Live), State};
answer({until_gone, Pid}, Who, #{live := Live, waiting := Waiting} = State) ->
    case is_map_key(Pid, Live) of
        true -> {later, State#{waiting := [{Pid, Who} | Waiting]}};
        false -> {gone, State}
    end;
answer({What, Pid}, _, #{live := Live} = State) ->
    {maps:get(What, maps:get(Pid, Live, maps:get({dead, Pid}, State, #{})), "pid?"), State}.

noted(Text, #{log := Log} = State) -> State#{log := [{none, lists:flatten(Text)} | Log]}.

name(Pid) -> ask({name, Pid}).

%% The children of a simple_one_for_one end together: their exits that follow each other have no order.
print_log() -> print_log(ask(take_log)).

print_log([]) -> ok;
print_log([{none, Text} | Rest]) -> say(Text), print_log(Rest);
print_log([{Group, _} | _] = Log) ->
    {Together, Rest} = lists:splitwith(fun({Other, _}) -> Other =:= Group end, Log),
    [say(Text) || Text <- lists:sort([Text || {_, Text} <- Together])],
    print_log(Rest).

%% --- Words

say(Text) -> io:put_chars([Text, $\n]).
spaced(Texts) -> lists:join(" ", Texts).
text(Term) -> io_lib:format("~0p", [Term]).
atom(Word) -> binary_to_atom(Word).
number(Word) -> binary_to_integer(Word).

shutdown(<<"brutal_kill">>) -> brutal_kill;
shutdown(<<"infinity">>) -> infinity;
shutdown(Word) -> number(Word).

reason(<<"shutdown:", Detail/binary>>) -> {shutdown, atom(Detail)};
reason(Word) -> atom(Word).

worker_spec(Id, [Restart, Shutdown, Significant | Manners]) ->
    #{id => atom(Id), start => {?MODULE, birth, [atom(Id), manners(Manners)]}, restart => atom(Restart),
      shutdown => shutdown(Shutdown), significant => atom(Significant), type => worker}.

manners([<<"reply:", Reason/binary>>]) -> {reply, reason(Reason)};
manners([<<"slow:", Milliseconds/binary>>]) -> {slow, number(Milliseconds)};
manners([<<"stubborn">>]) -> stubborn;
manners(_) -> none.
