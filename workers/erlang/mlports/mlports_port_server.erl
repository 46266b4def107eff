%% The process behind mlports_port: one worker, from its start to its end.
-module(mlports_port_server).
-behaviour(gen_server).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).

-define(FEATURES, [<<"ping">>, <<"cancel">>, <<"stream">>, <<"input">>, <<"batch">>, <<"ndarray">>]).
%% Items that a stream may be ahead of whoever takes them.
-define(WINDOW, 16).

%% A request of ours that is not answered. to: who waits; nobody when he has given up.
%% room: items that the worker may still send. taken: those that it was not told of.
-record(pending, {to :: {call, gen_server:from()} | {stream, {pid(), reference()}} | nobody,
                  monitor :: reference(), timer :: reference() | undefined,
                  room = none :: none | non_neg_integer(), taken = 0, input = none :: none | list()}).

-record(state, {port, os_pid, writer, frames, options, info = #{}, features = [], bare = false, arrays = false,
                max_frame = mlports_wire:default_max_frame(), alive = true,
                pending = #{} :: #{non_neg_integer() => #pending{}}, next_id = 1,
                streams = #{} :: #{reference() => non_neg_integer()},
                callers = #{} :: #{reference() => non_neg_integer()},
                serving = #{} :: #{reference() => {non_neg_integer(), pid()}}}).

init(#{command := [Program | Arguments]} = Options) ->
    process_flag(trap_exit, true),
    case os:find_executable(filename:join([unicode:characters_to_list(Program)])) of
        false -> {stop, {no_such_program, Program}};
        Executable -> hello(opened(Executable, Arguments, Options))
    end.

opened(Executable, Arguments, Options) ->
    Env = [{"MLPORTS_WORKER", "1"}, {"MLPORTS_TRANSPORT", false} | maps:get(env, Options, [])],
    %% Frames are read by hand: {packet, 4} allocates whatever a length says, also that of a worker that printed.
    Port = open_port({spawn_executable, Executable},
                     [{args, Arguments}, {env, Env}, stream, binary, eof, exit_status, use_stdio, hide
                      | [{cd, Folder} || #{cd := Folder} <- [Options]]]),
    OsPid = case erlang:port_info(Port, os_pid) of {os_pid, Pid} -> Pid; undefined -> undefined end,
    %% A worker that does not read holds whoever writes to it: not this process, which watches the deadlines.
    Writer = spawn_link(fun() -> writer(Port) end),
    Max = maps:get(max_frame, Options, mlports_wire:default_max_frame()),
    #state{port = Port, os_pid = OsPid, writer = Writer, frames = mlports_wire:frames(Max), options = Options}.

writer(Port) ->
    receive Payload ->
        try port_command(Port, mlports_wire:frame(Payload)) catch error:badarg -> ok end,
        writer(Port)
    end.

hello(State = #state{options = Options}) ->
    Timeout = maps:get(start_timeout, Options, 30000),
    Hello = #{protocol => #{min => 1, max => 1}, max_frame => maps:get(max_frame, Options, mlports_wire:default_max_frame()),
              features => ?FEATURES, service => maps:get(service, Options, <<>>),
              replica => maps:get(replica, Options, 0), config => maps:get(config, Options, #{})},
    send([0, 0, <<"$/hello">>, [Hello]], State),
    Timer = case Timeout of infinity -> undefined; _ -> erlang:send_after(Timeout, self(), start_timeout) end,
    case await_hello(State) of
        {ok, Ready} ->
            Timer =:= undefined orelse erlang:cancel_timer(Timer),
            receive start_timeout -> ok after 0 -> ok end,
            {ok, Ready};
        {stop, Reason, Ended} ->
            kill(Ended),
            {stop, Reason}
    end.

await_hello(State = #state{port = Port}) ->
    receive
        {Port, {data, _}} = Data ->
            case handle_info(Data, State) of
                {noreply, #state{info = Info} = Next} when map_size(Info) =:= 0 -> await_hello(Next);
                {noreply, Ready} -> {ok, Ready};
                Stop -> Stop
            end;
        {Port, {exit_status, Status}} -> {stop, {exit_status, Status}, State#state{alive = false}};
        {Port, eof} -> await_hello(State);
        {'EXIT', Pid, Reason} when is_pid(Pid), Pid =/= State#state.writer -> {stop, Reason, State};
        start_timeout -> {stop, start_timeout, State}
    end.

handle_call(info, _, State = #state{info = Info, os_pid = OsPid}) -> {reply, Info#{os_pid => OsPid}, State};
handle_call({call, _, _, _, _} = Call, From, State) -> {noreply, request(Call, {call, From}, State)}.

handle_cast({cast, Payload}, State) -> State#state.writer ! Payload, {noreply, State};
handle_cast({stream, To, Call}, State) -> {noreply, request(Call, {stream, To}, State)};
handle_cast({taken, Ref}, State = #state{streams = Streams}) ->
    case Streams of
        #{Ref := Id} -> {noreply, taken(Id, State)};
        _ -> {noreply, State}
    end;
handle_cast({cancel, Ref}, State = #state{streams = Streams}) ->
    case Streams of
        #{Ref := Id} -> {noreply, abandon(Id, State)};
        _ -> {noreply, State}
    end.

handle_info({Port, {data, Data}}, State = #state{port = Port, frames = Frames}) ->
    {Payloads, Next} = mlports_wire:feed(Data, Frames),
    try lists:foldl(fun received/2, State, Payloads) of
        Fed ->
            case Next of
                {violation, _, _} -> {stop, Next, Fed};
                _ -> {noreply, Fed#state{frames = Next}}
            end
    catch
        throw:{violation, _, _} = Violation -> {stop, Violation, State}
    end;
handle_info({Port, {exit_status, 0}}, State = #state{port = Port}) -> {stop, normal, State#state{alive = false}};
handle_info({Port, {exit_status, Status}}, State = #state{port = Port}) ->
    {stop, {exit_status, Status}, State#state{alive = false}};
handle_info({Port, eof}, State = #state{port = Port, options = Options}) ->
    %% Its output is closed: either it has ended, which its exit status tells now, or it is of no use.
    case maps:get(shutdown, Options, 5000) of
        infinity -> ok;
        Time -> erlang:send_after(Time, self(), output_closed)
    end,
    {noreply, State};
handle_info(output_closed, State) -> {stop, output_closed, State};
handle_info({late, Id}, State = #state{pending = Pending}) ->
    case Pending of
        #{Id := #pending{to = To}} when To =/= nobody ->
            reply(To, {error, #{code => deadline_exceeded, message => <<"the deadline passed">>,
                                data => nil, retryable => false}}),
            {noreply, abandon(Id, State)};
        _ -> {noreply, State}
    end;
handle_info({'DOWN', Monitor, process, _, Reason}, State) -> {noreply, down(Monitor, Reason, State)};
handle_info({served, Monitor, Result}, State) -> {noreply, served(Monitor, Result, State)};
handle_info({'EXIT', Port, Reason}, State = #state{port = Port}) -> {stop, {port, Reason}, State#state{alive = false}};
handle_info({'EXIT', _, normal}, State) -> {noreply, State};
handle_info({'EXIT', _, Reason}, State) -> {stop, Reason, State};
handle_info(_, State) -> {noreply, State}.

%% Whoever waits is told first; then the worker ends, by its own or not.
terminate(Reason, State = #state{pending = Pending}) ->
    Error = {error, #{code => unavailable, message => ended(Reason, State), data => nil, retryable => false}},
    [reply(To, Error) || #pending{to = To} <- maps:values(Pending), To =/= nobody],
    case Reason of
        _ when not State#state.alive -> ok;
        {violation, _, _} -> ok;
        output_closed -> ok;
        _ -> ask_to_end(State)
    end,
    kill(State).

ended(Reason, #state{options = Options}) ->
    Service = maps:get(service, Options, <<>>),
    iolist_to_binary(io_lib:format("the worker ~ts ended: ~0tP", [Service, Reason, 12])).

ask_to_end(State = #state{bare = true}) -> signal("TERM", State), await_end(State);
ask_to_end(State) -> send([2, <<"$/stop">>, [<<"shutdown">>]], State), await_end(State).

await_end(#state{port = Port, options = Options}) ->
    receive {Port, {exit_status, _}} -> ok after maps:get(shutdown, Options, 5000) -> ok end.

%% What is left of the worker: a port's program leads a process group of its own.
kill(State = #state{port = Port}) ->
    signal("KILL", State),
    try port_close(Port) catch error:badarg -> true end,
    ok.

signal(_, #state{os_pid = undefined}) -> ok;
signal(Signal, #state{os_pid = OsPid}) ->
    os:cmd(lists:flatten(io_lib:format("kill -s ~s -- -~b", [Signal, OsPid]))),
    ok.

%% The state as crash reports show it: without what callers and workers sent.
format_status(Status) ->
    maps:map(fun(state, #state{options = Options, os_pid = OsPid, pending = Pending}) ->
                     #{command => maps:get(command, Options), os_pid => OsPid, pending => map_size(Pending)};
                (message, _) -> '...';
                (_, Value) -> Value
             end, Status).

%% -- requests of ours

request({call, Method, Params, Meta, {Timeout, Input}}, To, State = #state{pending = Pending, next_id = Id}) ->
    {Pid, Streams, Room} = case To of
                               {call, {Caller, _}} -> {Caller, State#state.streams, none};
                               {stream, {Caller, Ref}} -> {Caller, (State#state.streams)#{Ref => Id}, ?WINDOW}
                           end,
    Full = wanted(Meta, Timeout, Room, Input, State),
    Payload = mlports_msgpack:encode([0, Id, Method, Params | [Full || map_size(Full) > 0]]),
    Refusal = refusal(Payload, Input, State),
    case Refusal of
        none ->
            State#state.writer ! Payload,
            Monitor = monitor(process, Pid),
            Timer = case Timeout of infinity -> undefined; _ -> erlang:send_after(Timeout, self(), {late, Id}) end,
            New = #pending{to = To, monitor = Monitor, timer = Timer,
                           room = case maps:is_key(<<"credit">>, Full) of true -> Room; false -> none end, input = Input},
            State#state{pending = Pending#{Id => New}, next_id = Id + 1, streams = Streams,
                        callers = (State#state.callers)#{Monitor => Id}};
        {Code, Text} ->
            reply(To, {error, #{code => Code, message => Text, data => nil, retryable => false}}),
            State
    end.

refusal(Payload, _, #state{max_frame = Max}) when byte_size(Payload) > Max ->
    {resource_exhausted, <<"the arguments are longer than the worker's max_frame">>};
refusal(_, none, _) -> none;
refusal(_, _, #state{features = Features}) ->
    case lists:member(<<"input">>, Features) of
        true -> none;
        false -> {unimplemented, <<"the worker takes no streamed arguments">>}
    end.

%% The meta of a request: what the worker can use of it.
wanted(_, _, _, _, #state{bare = true}) -> #{};
wanted(Meta, Timeout, Room, Input, #state{features = Features}) ->
    Credit = Room =/= none andalso lists:member(<<"stream">>, Features),
    maps:merge(Meta, maps:from_list([{<<"deadline_ms">>, Timeout} || Timeout =/= infinity]
                                    ++ [{<<"credit">>, Room} || Credit] ++ [{<<"input">>, true} || Input =/= none])).

taken(Id, State = #state{pending = Pending}) ->
    case Pending of
        #{Id := #pending{room = Room, taken = Taken} = Request} when is_integer(Room), Taken + 1 >= ?WINDOW div 2 ->
            send([2, <<"$/credit">>, [Id, Taken + 1]], State),
            State#state{pending = Pending#{Id := Request#pending{room = Room + Taken + 1, taken = 0}}};
        #{Id := #pending{taken = Taken} = Request} ->
            State#state{pending = Pending#{Id := Request#pending{taken = Taken + 1}}};
        _ -> State
    end.

%% Nobody waits for its answer any more, which still comes.
abandon(Id, State = #state{pending = Pending, features = Features}) ->
    #{Id := Request} = Pending,
    lists:member(<<"cancel">>, Features) andalso send([2, <<"$/cancel">>, [Id]], State),
    released(Request, State#state{pending = Pending#{Id := Request#pending{to = nobody, input = none}}}).

released(#pending{to = To, monitor = Monitor, timer = Timer}, State = #state{callers = Callers, streams = Streams}) ->
    demonitor(Monitor, [flush]),
    Timer =:= undefined orelse erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
    Left = case To of {stream, {_, Ref}} -> maps:remove(Ref, Streams); _ -> Streams end,
    State#state{callers = maps:remove(Monitor, Callers), streams = Left}.

reply({call, From}, Result) -> gen_server:reply(From, Result);
reply({stream, {Pid, Ref}}, Result) -> Pid ! {mlports_done, Ref, Result}.

%% -- what the worker sends

received(Payload, State = #state{info = Info, arrays = Arrays}) ->
    case mlports_wire:decode(Payload, Arrays) of
        Message when map_size(Info) =:= 0 -> greeted(Message, State);
        Message -> message(Message, State)
    end.

greeted({response, 0, nil, Result, _}, State) ->
    #{features := Theirs, max_frame := Max} = Info = mlports_hello:answer(Result),
    Features = [Feature || Feature <- Theirs, lists:member(Feature, ?FEATURES)],
    State#state{info = Info, features = Features, max_frame = Max, arrays = lists:member(<<"ndarray">>, Features)};
greeted({response, 0, _, _, _}, State) ->
    Bare = #{name => <<>>, language => <<>>, sdk => <<>>, methods => nil, features => [], concurrency => 1,
             max_frame => State#state.max_frame},
    State#state{info = Bare, bare = true};
greeted({response, Id, _, _, _}, _) -> mlports_wire:violation('UnknownId', "a response to ~b, which was never sent", [Id]);
greeted({notification, <<"$/log">>, Params, _}, State) -> log(Params, State), State;
greeted({notification, <<"$/progress">>, _, _}, State) -> State;
greeted(_, _) -> mlports_wire:violation('HandshakeExpected', "a message before the answer to $/hello", []).

message({response, Id, Error, Result, _}, State = #state{pending = Pending}) ->
    case maps:take(Id, Pending) of
        {#pending{to = To} = Request, Rest} ->
            To =:= nobody orelse reply(To, case Error of nil -> {ok, Result}; _ -> {error, mlports_hello:failure(Error)} end),
            released(Request, State#state{pending = Rest});
        error -> stray(Id, State)
    end;
message({request, Id, Method, Params, _}, State) -> serve(Id, Method, Params, State);
message({notification, <<"$/item">>, [Id, Item | _], _}, State = #state{pending = Pending}) when is_integer(Id), Id >= 0 ->
    case Pending of
        #{Id := #pending{room = Room, to = To} = Request} when is_integer(Room), Room > 0 ->
            case To of {stream, {Pid, Ref}} -> Pid ! {mlports_item, Ref, Item}; nobody -> ok end,
            State#state{pending = Pending#{Id := Request#pending{room = Room - 1}}};
        #{Id := _} -> mlports_wire:violation('CreditExceeded', "an item for the request ~b without credit", [Id]);
        _ -> stray(Id, State)
    end;
message({notification, <<"$/input_credit">>, [Id, N | _], _}, State = #state{pending = Pending})
  when is_integer(Id), Id >= 0, is_integer(N), N >= 1 ->
    case Pending of
        #{Id := #pending{input = Input} = Request} when is_list(Input) ->
            State#state{pending = Pending#{Id := Request#pending{input = give_input(Id, N, Input, State)}}};
        _ -> State
    end;
message({notification, <<"$/cancel">>, [Id | _], _}, State = #state{serving = Serving}) ->
    [exit(Pid, cancelled) || {Number, Pid} <- maps:values(Serving), Number =:= Id],
    State;
message({notification, <<"$/log">>, Params, _}, State) -> log(Params, State), State;
message({notification, <<"$/", Name/binary>>, Params, _}, _) when Name =:= <<"item">>; Name =:= <<"input_credit">> ->
    mlports_wire:violation('InvalidMessage', "$/~ts with ~0tP", [Name, Params, 8]);
message({notification, <<"$/", _/binary>>, _, _}, State) -> State;
message({notification, Method, Params, _}, State) -> serve(nil, Method, Params, State).

-spec stray(non_neg_integer(), #state{}) -> no_return().
stray(Id, #state{next_id = Next}) when Id < Next ->
    mlports_wire:violation('AnsweredTwice', "the request ~b was answered before", [Id]);
stray(Id, _) -> mlports_wire:violation('UnknownId', "the request ~b was never sent", [Id]).

give_input(Id, _, [], State) -> send([2, <<"$/input_end">>, [Id]], State), none;
give_input(_, 0, Input, _) -> Input;
give_input(Id, N, [Item | Rest], State) ->
    send([2, <<"$/input">>, [Id, Item]], State),
    give_input(Id, N - 1, Rest, State).

log([Level0, Text, Fields | _], State) when is_map(Fields) ->
    Level = case mlports_wire:text(Level0) of
                <<"debug">> -> debug;
                <<"warning">> -> warning;
                <<"error">> -> error;
                _ -> info
            end,
    case mlports_wire:text(Text) of
        error -> mlports_wire:violation('InvalidMessage', "$/log without a text", []);
        Line -> logger:log(Level, "~ts ~0tP", [Line, Fields, 30], #{service => maps:get(service, State#state.options, <<>>)})
    end;
log([Level, Text], State) -> log([Level, Text, #{}], State);
log(_, _) -> mlports_wire:violation('InvalidMessage', "$/log is [level, text, fields]", []).

%% -- calls that the worker makes

serve(Id, <<"$/ping">>, _, State) -> send([1, Id, nil, nil], State), State;
serve(Id, <<"$/", _/binary>> = Method, _, State) -> answer(Id, unimplemented(Method), State), State;
serve(Id, Method, Params, State = #state{options = #{on_call := OnCall}, serving = Serving}) ->
    lists:any(fun({Number, _}) -> is_integer(Id) andalso Number =:= Id end, maps:values(Serving))
        andalso mlports_wire:violation('DuplicateId', "the request ~b is open already", [Id]),
    Port = self(),
    Ref = make_ref(),
    {Pid, Monitor} = spawn_monitor(fun() -> Port ! {served, Ref, OnCall(Method, Params)} end),
    State#state{serving = Serving#{Monitor => {Id, Pid}, Ref => {Id, Pid}}};
serve(Id, Method, _, State) -> answer(Id, unimplemented(Method), State), State.

unimplemented(Method) ->
    {error, #{code => unimplemented, message => <<"this host has nothing for ", Method/binary>>}}.

served(Ref, Result, State = #state{serving = Serving}) ->
    case maps:take(Ref, Serving) of
        {{Id, _}, Rest} ->
            answer(Id, Result, State),
            State#state{serving = Rest};
        error -> State
    end.

answer(nil, _, _) -> ok;
answer(Id, {ok, Result}, State) ->
    try mlports_msgpack:encode([1, Id, nil, Result]) of
        Payload -> State#state.writer ! Payload
    catch
        error:{unencodable, Text} -> answer(Id, {error, #{code => internal, message => Text}}, State)
    end;
answer(Id, {error, Error}, State) -> send([1, Id, Error, nil], State).

%% A caller of ours has ended, or a process that served a call.
down(Monitor, Reason, State = #state{callers = Callers, serving = Serving}) ->
    case {Callers, maps:take(Monitor, Serving)} of
        {#{Monitor := Id}, _} -> abandon(Id, State);
        {_, {{Id, Pid}, Rest}} ->
            case [Ref || {Ref, {_, P}} <- maps:to_list(Rest), P =:= Pid] of
                [] -> State#state{serving = Rest};
                [Ref] ->
                    answer(Id, {error, failure(Reason)}, State),
                    State#state{serving = maps:remove(Ref, Rest)}
            end;
        _ -> State
    end.

failure(cancelled) -> #{code => cancelled, message => <<"the call was cancelled">>};
failure(Reason) -> #{code => unknown, message => iolist_to_binary(io_lib:format("~0tP", [Reason, 20]))}.

send(Message, #state{writer = Writer}) -> Writer ! mlports_msgpack:encode(Message), ok.
