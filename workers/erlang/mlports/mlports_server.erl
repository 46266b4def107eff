%% A worker's side of the conversation: reads messages, starts a process for each request whose turn it is, writes answers.
-module(mlports_server).
-behaviour(gen_server).

-export([start_monitor/3, call/4, notify/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(FEATURES, [<<"ping">>, <<"cancel">>, <<"stream">>, <<"input">>, <<"batch">>, <<"ndarray">>]).
-define(FLUSH_BYTES, 262144).
%% Milliseconds that handlers have left when the input ended without $/stop.
-define(GRACE, 500).

%% A request that is not answered. at: where it is worked on; nil while it waits for its turn.
-record(open, {job :: mlports_job:job(), at = nil :: pid() | nil, timer :: reference() | undefined,
               input = none :: none | ended | non_neg_integer()}).

-record(state, {name, handlers, setup = undefined, concurrency = 1, channel, write,
                frames, arrays = false, max_frame = mlports_wire:default_max_frame(),
                phase = hello :: hello | {setting_up, map(), pid(), reference()} | serving,
                open = #{} :: #{non_neg_integer() => #open{}},
                waiting = queue:new() :: queue:queue({request, non_neg_integer()} | {cast, mlports_job:job()}),
                running = #{} :: #{reference() => {request, non_neg_integer()} | {cast, binary()}},
                calls = #{} :: #{non_neg_integer() => {gen_server:from(), pid(), reference(), reference() | undefined}},
                next_id = 0, cancels = false,
                stopping = false, ended = false, out = [], out_size = 0}).

start_monitor(Name, Handlers, Open) ->
    gen_server:start_monitor({local, ?MODULE}, ?MODULE, {Name, Handlers, Open}, []).

%% Makes a call by way of the orchestrator.
call(Target, Params, Meta, Timeout) ->
    try mlports_msgpack:encode([Target, Params, Meta]) of
        _ -> gen_server:call(?MODULE, {call, Target, Params, Meta, Timeout}, infinity)
    catch
        error:{unencodable, Text} ->
            {error, #{code => invalid_argument, message => <<"the arguments cannot be sent: ", Text/binary>>}}
    end.

notify(Method, Params) ->
    ?MODULE ! {frame, mlports_msgpack:encode([2, Method, Params])},
    ok.

init({Name, Handlers, Open}) ->
    process_flag(trap_exit, true),
    {Channel, Write} = Open(),
    {ok, #state{name = unicode:characters_to_binary(if is_atom(Name) -> atom_to_list(Name); true -> Name end),
                handlers = mlports_job:handlers(Handlers), setup = proplists:get_value(setup, Handlers),
                concurrency = proplists:get_value(concurrency, Handlers, 1), channel = Channel, write = Write,
                frames = mlports_wire:frames(mlports_wire:default_max_frame())}}.

handle_call({call, Target, Params, Meta, Timeout}, {Pid, _} = From, State = #state{calls = Calls, next_id = Id}) ->
    Payload = mlports_msgpack:encode([0, Id, Target, Params | [Meta || map_size(Meta) > 0]]),
    case byte_size(Payload) > State#state.max_frame of
        true -> {reply, {error, #{code => resource_exhausted, message => <<"the arguments are too long">>}}, State};
        false ->
            Monitor = monitor(process, Pid),
            Timer = timer(Timeout, {late_call, Id}),
            continue(write(Payload, State#state{calls = Calls#{Id => {From, Pid, Monitor, Timer}}, next_id = Id + 1}))
    end.

handle_cast(_, State) -> continue(State).

handle_info(timeout, State) -> {noreply, flush(State)};
handle_info({Channel, {data, Data}}, State = #state{channel = Channel, frames = Frames}) ->
    {Payloads, Next} = mlports_wire:feed(Data, Frames),
    try lists:foldl(fun receive_frame/2, State, Payloads) of
        Fed ->
            case Next of
                {violation, Name, Text} -> violated(Name, Text, Fed);
                _ -> continue(start_waiting(Fed#state{frames = bounded(Next, Fed)}))
            end
    catch
        throw:{violation, Name, Text} -> violated(Name, Text, State)
    end;
handle_info({answer, Id, Payload}, State) -> continue(start_waiting(answered(Id, Payload, State)));
handle_info({frame, Payload}, State) -> continue(write(Payload, State));
handle_info({input_credit, Id, N}, State = #state{open = Open}) ->
    case Open of
        #{Id := #open{input = Due} = Request} when is_integer(Due) ->
            Granted = State#state{open = Open#{Id := Request#open{input = Due + N}}},
            continue(write(mlports_msgpack:encode([2, <<"$/input_credit">>, [Id, N]]), Granted));
        #{Id := #open{input = Due, at = Pid}} ->
            Due =:= cut andalso (Pid ! mlports_input_cut),
            continue(State);
        _ -> continue(State)
    end;
handle_info({late, Id}, State) ->
    continue(start_waiting(give_up(Id, deadline_exceeded, State)));
handle_info({late_call, Id}, State = #state{calls = Calls}) ->
    case Calls of
        #{Id := {From, _, _, _}} ->
            gen_server:reply(From, {error, #{code => deadline_exceeded, message => <<"the call's deadline passed">>}}),
            continue(abandon_call(Id, State));
        _ -> continue(State)
    end;
handle_info({ready, Pid}, State = #state{phase = {setting_up, Hello, Pid, _}}) ->
    continue(start_waiting(say_hello(Hello, State)));
handle_info({'DOWN', Monitor, process, Pid, Reason}, State) -> down(Monitor, Pid, Reason, State);
handle_info({Channel, eof}, State = #state{channel = Channel}) -> input_ended(State);
handle_info({'EXIT', Channel, _}, State = #state{channel = Channel}) -> {stop, {shutdown, output_closed}, State};
handle_info(out_of_time, State) -> {stop, normal, flush(State)};
handle_info(_, State) -> continue(State).

%% After every event: ends when there is nothing left to do, and writes what is due before waiting for anything.
continue(State = #state{out = Out}) ->
    case is_done(State) of
        true -> {stop, normal, flush(State)};
        false when Out =:= [] -> {noreply, State};
        false -> {noreply, State, 0}
    end.

is_done(#state{stopping = false, ended = false}) -> false;
is_done(#state{open = Open, running = Running, waiting = Waiting}) ->
    map_size(Open) =:= 0 andalso map_size(Running) =:= 0 andalso queue:is_empty(Waiting).

write(Payload, State = #state{out = Out, out_size = Size}) ->
    Frame = mlports_wire:frame(Payload),
    case Size + iolist_size(Frame) of
        Large when Large > ?FLUSH_BYTES -> flush(State#state{out = [Out | Frame]});
        Now -> State#state{out = [Out | Frame], out_size = Now}
    end.

flush(State = #state{out = []}) -> State;
flush(State = #state{out = Out, write = Write}) ->
    try Write(Out) catch error:badarg -> self() ! {'EXIT', State#state.channel, closed} end,
    State#state{out = [], out_size = 0}.

violated(Name, Text, State) ->
    {stop, {shutdown, <<(atom_to_binary(Name))/binary, ": ", Text/binary>>}, flush(State)}.

input_ended(State = #state{frames = Frames, open = Open, stopping = Stopping}) ->
    case mlports_wire:ended(Frames) of
        {violation, Name, Text} -> violated(Name, Text, State);
        ok when State#state.phase =/= serving -> {stop, normal, State};
        ok ->
            Stopping orelse erlang:send_after(?GRACE, self(), out_of_time),
            continue(State#state{ended = true, open = maps:map(fun(_, Request) -> cut_input(Request) end, Open)})
    end.

cut_input(#open{input = Due, at = Pid} = Request) when is_integer(Due) ->
    is_pid(Pid) andalso (Pid ! mlports_input_cut),
    Request#open{input = cut};
cut_input(Request) -> Request.

bounded(Frames, #state{max_frame = Max}) -> mlports_wire:set_max_frame(Max, Frames).

%% -- what came in

receive_frame(Payload, State = #state{phase = Phase, arrays = Arrays}) ->
    Message = mlports_wire:decode(Payload, Arrays),
    case Phase of
        serving -> receive_message(Message, byte_size(Payload), State);
        hello -> receive_hello(Message, State);
        _ -> too_early(Message)
    end.

receive_hello({request, Id, <<"$/hello">>, Params, _}, State = #state{setup = Setup}) ->
    Hello = #{config := Config, max_frame := Max} = mlports_hello:checked(Params),
    persistent_term:put({mlports, config}, Config),
    Server = self(),
    {Pid, Monitor} = spawn_monitor(fun() -> set_up(Setup, Config, Server) end),
    State#state{phase = {setting_up, Hello#{id => Id}, Pid, Monitor}, max_frame = Max};
receive_hello(Message, _) -> too_early(Message).

too_early({response, Id, _, _, _}) ->
    mlports_wire:violation('UnknownId', "a response to ~b, which was never sent", [Id]);
too_early(_) ->
    mlports_wire:violation('HandshakeExpected', "a message before $/hello was answered", []).

%% What setup starts and links, and the tables that it makes, live as long as this process: until the end.
set_up(Setup, Config, Server) ->
    try Setup =:= undefined orelse mlports_worker:set_state(Setup(Config)) of
        _ -> Server ! {ready, self()}
    catch
        Class:Reason:Stack ->
            #{message := Message} = Error = mlports_job:error_map(Class, Reason, Stack),
            Trace = maps:get(traceback, maps:get(data, Error, #{}), <<>>),
            exit({set_up_failed, <<"the worker's setup failed: ", Message/binary, $\n, Trace/binary>>})
    end,
    receive after infinity -> ok end.

say_hello(#{id := Id, features := Theirs}, State = #state{name = Name, handlers = Handlers, max_frame = Max}) ->
    Answer = #{protocol => 1, max_frame => Max, name => Name, language => <<"erlang">>, sdk => <<"mlports-erlang 0.1.0">>,
               methods => maps:map(fun(_, Handler) -> mlports_job:info(Handler) end, Handlers), features => ?FEATURES,
               concurrency => State#state.concurrency},
    write(mlports_msgpack:encode([1, Id, nil, Answer]),
          State#state{phase = serving, arrays = lists:member(<<"ndarray">>, Theirs),
                      cancels = lists:member(<<"cancel">>, Theirs)}).

receive_message({request, Id, Method, Params, Meta}, _, State = #state{open = Open}) ->
    is_map_key(Id, Open) andalso mlports_wire:violation('DuplicateId', "the request ~b is open already", [Id]),
    receive_request(Method, Id, Params, Meta, State);
receive_message({response, Id, Error, Result, _}, _, State = #state{calls = Calls}) ->
    case Calls of
        #{Id := {nobody, _, _, _}} -> forget_call(Id, State);
        #{Id := {From, _, _, _}} ->
            gen_server:reply(From, case Error of nil -> {ok, Result}; _ -> {error, mlports_hello:failure(Error)} end),
            forget_call(Id, State);
        _ -> stray(Id, State)
    end;
receive_message({notification, <<"$/", _/binary>> = Method, Params, _}, Size, State) -> control(Method, Params, Size, State);
receive_message({notification, Method, Params, Meta}, _, State = #state{handlers = Handlers, waiting = Waiting}) ->
    case Handlers of
        #{Method := #{input := false} = Handler} ->
            State#state{waiting = queue:in({cast, job(nil, Handler, Params, Meta, State)}, Waiting)};
        _ ->
            Text = <<"a cast to ", Method/binary, ", which takes none here, was dropped">>,
            write(mlports_msgpack:encode([2, <<"$/log">>, [<<"warning">>, Text, #{}]]), State)
    end.

-spec stray(non_neg_integer(), #state{}) -> no_return().
stray(Id, #state{next_id = Next}) when Id < Next ->
    mlports_wire:violation('AnsweredTwice', "the request ~b was answered before", [Id]);
stray(Id, _) -> mlports_wire:violation('UnknownId', "the request ~b was never sent", [Id]).

receive_request(<<"$/hello">>, _, _, _, _) ->
    mlports_wire:violation('HandshakeExpected', "a second $/hello", []);
receive_request(<<"$/ping">>, Id, _, _, State) -> write(mlports_msgpack:encode([1, Id, nil, nil]), State);
receive_request(_, Id, _, _, State = #state{stopping = true}) ->
    refuse(Id, #{code => unavailable, message => <<"the worker is stopping">>, retryable => true}, State);
receive_request(Method, Id, Params, Meta, State = #state{handlers = Handlers}) ->
    case Handlers of
        #{Method := Handler} ->
            case refusal(Handler, Params, Meta) of
                none -> accept(job(Id, Handler, Params, Meta, State), State);
                Text -> refuse(Id, #{code => invalid_argument, message => <<Method/binary, ": ", Text/binary>>}, State)
            end;
        _ -> refuse(Id, #{code => unimplemented, message => no_method(Method, State)}, State)
    end.

no_method(Method, #state{name = Name, handlers = Handlers}) ->
    Known = lists:join(", ", lists:sort(maps:keys(Handlers))),
    iolist_to_binary(["the worker ", Name, " has no method ", Method, "; it has: ", Known]).

refusal(_, _, #{<<"batch">> := _} = Meta) when is_map_key(<<"credit">>, Meta); is_map_key(<<"input">>, Meta) ->
    <<"a batch gives no stream and takes none">>;
refusal(_, Params, #{<<"batch">> := N}) when length(Params) =/= N -> <<"the batch's number and its params do not agree">>;
refusal(#{input := true}, _, Meta) when not is_map_key(<<"input">>, Meta) ->
    <<"it takes a streamed argument, and this call has none">>;
refusal(#{input := false}, _, #{<<"input">> := true}) -> <<"it takes no streamed argument">>;
refusal(_, _, _) -> none.

refuse(Id, Error, State) -> write(mlports_msgpack:encode([1, Id, Error, nil]), State).

job(Id, Handler, Params, Meta, #state{max_frame = Max}) ->
    Until = case Meta of
                #{<<"deadline_ms">> := Left} when is_number(Left), Left < 1.0e12 ->
                    erlang:monotonic_time(millisecond) + ceil(Left);
                _ -> infinity
            end,
    #{id => Id, handler => Handler, params => Params, meta => Meta, until => Until, server => self(), max_frame => Max}.

accept(#{id := Id, meta := #{<<"deadline_ms">> := Left}}, State) when Left =< 0 ->
    refuse(Id, #{code => deadline_exceeded, message => <<"the deadline passed before the call began">>}, State);
accept(#{id := Id, until := Until, meta := Meta} = Job, State = #state{open = Open, waiting = Waiting}) ->
    Timer = case Until of
                infinity -> undefined;
                _ -> erlang:send_after(Until, self(), {late, Id}, [{abs, true}])
            end,
    Input = case Meta of #{<<"input">> := true} -> 0; _ -> none end,
    State#state{open = Open#{Id => #open{job = Job, timer = Timer, input = Input}},
                waiting = queue:in({request, Id}, Waiting)}.

control(<<"$/cancel">>, [Id | _], _, State) when is_integer(Id), Id >= 0 -> give_up(Id, cancelled, State);
control(<<"$/credit">>, [Id, N | _], _, State = #state{open = Open}) when is_integer(Id), Id >= 0, is_integer(N), N >= 1 ->
    case Open of
        #{Id := #open{at = Pid}} when is_pid(Pid) -> Pid ! {mlports_credit, N}, State;
        #{Id := #open{job = #{meta := #{<<"credit">> := Credit} = Meta} = Job} = Request} ->
            More = Request#open{job = Job#{meta := Meta#{<<"credit">> := Credit + N}}},
            State#state{open = Open#{Id := More}};
        _ -> State
    end;
control(<<"$/input">>, [Id, Value | _], Size, State = #state{open = Open}) when is_integer(Id), Id >= 0 ->
    case Open of
        #{Id := #open{input = Due, at = Pid} = Request} when is_integer(Due), Due > 0 ->
            Pid ! {mlports_input, Value, Size},
            State#state{open = Open#{Id := Request#open{input = Due - 1}}};
        #{Id := _} -> mlports_wire:violation('CreditExceeded', "an input item for ~b without credit", [Id]);
        _ -> State
    end;
control(<<"$/input_end">>, [Id | _], _, State = #state{open = Open}) when is_integer(Id), Id >= 0 ->
    case Open of
        #{Id := #open{input = none}} -> mlports_wire:violation('CreditExceeded', "an input's end for ~b, which has none", [Id]);
        #{Id := #open{at = Pid} = Request} ->
            is_pid(Pid) andalso (Pid ! mlports_input_end),
            State#state{open = Open#{Id := Request#open{input = ended}}};
        _ -> State
    end;
control(<<"$/item">>, [Id, _ | _], _, State = #state{calls = Calls}) when is_integer(Id), Id >= 0 ->
    is_map_key(Id, Calls) orelse stray(Id, State),
    mlports_wire:violation('CreditExceeded', "an item for the request ~b, which asked for none", [Id]);
control(<<"$/input_credit">>, [Id, N | _], _, State) when is_integer(Id), Id >= 0, is_integer(N), N >= 1 -> State;
control(<<"$/stop">>, _, _, State) -> State#state{stopping = true};
control(Method, Params, _, _) when Method =:= <<"$/cancel">>; Method =:= <<"$/credit">>; Method =:= <<"$/input">>;
                                   Method =:= <<"$/input_end">>; Method =:= <<"$/item">>; Method =:= <<"$/input_credit">> ->
    mlports_wire:violation('InvalidMessage', "~ts with ~0tP", [Method, Params, 8]);
control(_, _, _, State) -> State.

%% -- requests at work

start_waiting(State = #state{phase = serving, waiting = Waiting, running = Running, concurrency = Most})
  when map_size(Running) < Most ->
    case queue:out(Waiting) of
        {empty, _} -> State;
        {{value, {cast, #{handler := #{name := Name}} = Job}}, Rest} ->
            {_, Monitor} = mlports_job:start(Job),
            Begun = flush(State),
            start_waiting(Begun#state{waiting = Rest, running = Running#{Monitor => {cast, Name}}});
        {{value, {request, Id}}, Rest} -> start_waiting(start_request(Id, State#state{waiting = Rest}))
    end;
start_waiting(State) -> State.

start_request(Id, State0 = #state{open = Open}) ->
    case Open of
        #{Id := #open{job = #{handler := #{idempotent := Idempotent}} = Job, input = Input, at = nil} = Request} ->
            %% If this one is the worker's death, the answers before it could not be had again.
            State = case Idempotent of true -> State0; false -> flush(State0) end,
            {Pid, Monitor} = mlports_job:start(Job),
            Input =:= ended andalso (Pid ! mlports_input_end),
            Input =:= cut andalso (Pid ! mlports_input_cut),
            Running = State#state.running,
            State#state{open = Open#{Id := Request#open{at = Pid}}, running = Running#{Monitor => {request, Id}}};
        _ -> State0
    end.

answered(Id, Payload, State = #state{open = Open}) ->
    case maps:take(Id, Open) of
        {#open{timer = Timer}, Rest} ->
            Timer =:= undefined orelse erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
            write(Payload, State#state{open = Rest});
        error -> State
    end.

%% Ends a request that nobody waits for. One at work answers when its process has ended, unless it traps exits.
give_up(Id, Reason, State = #state{open = Open}) ->
    case Open of
        #{Id := #open{at = nil}} -> answered(Id, lost(Id, Reason), State);
        #{Id := #open{at = Pid}} -> exit(Pid, Reason), State;
        _ -> State
    end.

down(Monitor, Pid, Reason, State = #state{running = Running, phase = Phase}) ->
    case maps:take(Monitor, Running) of
        {{request, Id}, Rest} ->
            Ended = answered(Id, lost(Id, Reason), State#state{running = Rest}),
            continue(start_waiting(abandon_calls(Pid, Ended)));
        {{cast, _}, Rest} -> continue(start_waiting(abandon_calls(Pid, State#state{running = Rest})));
        error when element(3, Phase) =:= Pid -> {stop, {shutdown, set_up_ended(Reason)}, State};
        error -> continue(abandon_calls(Pid, State))
    end.

set_up_ended({set_up_failed, Text}) -> Text;
set_up_ended(Reason) -> iolist_to_binary(io_lib:format("what setup started ended: ~0tp", [Reason])).

lost(Id, Reason) ->
    {Code, Message} = case Reason of
                          cancelled -> {cancelled, <<"the call was cancelled">>};
                          deadline_exceeded -> {deadline_exceeded, <<"the deadline passed">>};
                          _ -> {unknown, iolist_to_binary(io_lib:format("exit: ~0tP", [Reason, 30]))}
                      end,
    mlports_msgpack:encode([1, Id, #{code => Code, message => Message}, nil]).

%% -- calls of this worker's own

forget_call(Id, State = #state{calls = Calls}) ->
    {{_, _, Monitor, Timer}, Rest} = maps:take(Id, Calls),
    demonitor(Monitor, [flush]),
    Timer =:= undefined orelse erlang:cancel_timer(Timer),
    State#state{calls = Rest}.

%% Nobody waits for its answer any more, which still comes.
abandon_call(Id, State = #state{calls = Calls, cancels = Cancels}) ->
    #{Id := {_, Pid, Monitor, Timer}} = Calls,
    Abandoned = State#state{calls = Calls#{Id := {nobody, Pid, Monitor, Timer}}},
    case Cancels of
        true -> write(mlports_msgpack:encode([2, <<"$/cancel">>, [Id]]), Abandoned);
        false -> Abandoned
    end.

abandon_calls(Pid, State = #state{calls = Calls}) ->
    Of = [Id || {Id, {From, Caller, _, _}} <- maps:to_list(Calls), Caller =:= Pid, From =/= nobody],
    lists:foldl(fun abandon_call/2, State, Of).

timer(infinity, _) -> undefined;
timer(Timeout, Message) -> erlang:send_after(Timeout, self(), Message).
