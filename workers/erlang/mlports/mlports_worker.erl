%% A worker: a program whose methods others call (section 1 of the protocol). README.md tells how to write one.
-module(mlports_worker).

-export([run/2, config/0, state/0, set_state/1, call/2, call/3, cast/2, log/2, log/3, progress/1, progress/2, progress/3]).
-export([deadline/0, item/1, next/1, fold/3, fail/1, fail/2, fail/3, failure/2, failure/3]).
-export_type([handler/0, failure/0, input/0]).

-type name() :: atom() | string() | binary().
-type functions() :: function() | [function()].
-type flag() :: idempotent | input.
-type handler() :: {setup, fun((map()) -> term())} | {concurrency, pos_integer()}
                 | {method | batch | stream, name(), functions()} | {method | batch | stream, name(), functions(), [flag()]}.
-type failure() :: #{code := atom() | binary(), message := binary(), data => term(), retryable => boolean()}.
-opaque input() :: mlports_input.

%% Serves these methods until the orchestrator says stop or goes away, and ends the VM. Never returns.
%% The exit status is 0 at a clean end, else 1 with the reason on standard error.
-spec run(name(), [handler()]) -> no_return().
run(Name, Handlers) ->
    Open = mlports_stdio:take(),
    Reason = case mlports_server:start_monitor(Name, Handlers, Open) of
                 {ok, {_, Monitor}} -> receive {'DOWN', Monitor, process, _, Why} -> Why end;
                 {error, Why} -> Why
             end,
    halt(status(Reason)).

status(normal) -> 0;
status({shutdown, output_closed}) -> 1;
status({shutdown, Text}) when is_binary(Text) -> complain(Text);
status(Reason) -> complain(io_lib:format("the worker's server ended: ~0tp", [Reason])).

complain(Text) ->
    io:put_chars(standard_error, [Text, $\n]),
    1.

%% The service's config, as it came with $/hello: a map with binaries as keys.
-spec config() -> map().
config() -> persistent_term:get({mlports, config}, #{}).

%% What setup gave. It is shared by all handlers without being copied.
-spec state() -> term().
state() -> persistent_term:get({mlports, state}, undefined).

%% Puts another in its place. For rare changes, such as a new model: it costs a garbage collection of all processes.
-spec set_state(term()) -> ok.
set_state(State) -> persistent_term:put({mlports, state}, State).

%% Calls "service.method" by way of the orchestrator. Waits no longer than this request's own deadline.
-spec call(name(), [term()]) -> {ok, term()} | {error, failure()}.
call(Target, Params) -> call(Target, Params, infinity).

-spec call(name(), [term()], timeout()) -> {ok, term()} | {error, failure()}.
call(Target, Params, Timeout) ->
    Context = mlports_job:context(),
    Limit = mlports_job:earlier(Timeout, deadline()),
    Meta = maps:merge(mlports_job:passed_on(Context),
                      case Limit of infinity -> #{}; _ -> #{<<"deadline_ms">> => Limit} end),
    mlports_server:call(text(Target), Params, Meta, Limit).

%% Sends "service.method" its arguments and waits for nothing.
-spec cast(name(), [term()]) -> ok.
cast(Target, Params) ->
    mlports_server:notify(text(Target), Params).

%% A line in the orchestrator's log. Level: debug, info, warning or error.
-spec log(name(), iodata()) -> ok.
log(Level, Text) -> log(Level, Text, #{}).

-spec log(name(), iodata(), map()) -> ok.
log(Level, Text, Fields) ->
    mlports_server:notify(<<"$/log">>, [text(Level), unicode:characters_to_binary(Text), Fields]).

%% Tells how much of this request is done. Without effect outside a handler of a request.
-spec progress(number()) -> ok.
progress(Done) -> progress(Done, nil).

-spec progress(number(), number() | nil) -> ok.
progress(Done, Total) -> progress(Done, Total, <<>>).

-spec progress(number(), number() | nil, iodata()) -> ok.
progress(Done, Total, Text) ->
    case mlports_job:context() of
        #{id := Id} when is_integer(Id) ->
            mlports_server:notify(<<"$/progress">>, [Id, Done, Total, unicode:characters_to_binary(Text)]);
        _ -> ok
    end.

%% Milliseconds until the caller gives up. The handler is ended then by an exit signal `deadline_exceeded`, and by
%% `cancelled` when the call is cancelled: one that traps exits gets them as messages.
-spec deadline() -> timeout().
deadline() ->
    case mlports_job:context() of
        #{until := Until} when is_integer(Until) -> max(0, Until - erlang:monotonic_time(millisecond));
        _ -> infinity
    end.

%% One item of a streamed answer: waits until the caller has room for it. In the process of a stream's handler.
-spec item(term()) -> ok.
item(Value) -> mlports_job:item(Value).

%% The next item of a streamed argument, waiting for it; `done` behind the last.
-spec next(input()) -> {ok, term()} | done.
next(mlports_input) -> mlports_job:next_input().

-spec fold(fun((term(), Acc) -> Acc), Acc, input()) -> Acc.
fold(Fun, Acc, Input) ->
    case next(Input) of
        {ok, Item} -> fold(Fun, Fun(Item, Acc), Input);
        done -> Acc
    end.

%% Ends this call with an error of that code (section 4.4 lists them).
-spec fail(failure()) -> no_return().
fail(Failure) -> error({mlports_failure, Failure}).

-spec fail(name(), iodata()) -> no_return().
fail(Code, Message) -> error(failure(Code, Message)).

-spec fail(name(), iodata(), #{data => term(), retryable => boolean()}) -> no_return().
fail(Code, Message, More) -> error(failure(Code, Message, More)).

%% The same as a value: in a result's place in a batch, that item's error.
-spec failure(name(), iodata()) -> {mlports_failure, failure()}.
failure(Code, Message) -> failure(Code, Message, #{}).

-spec failure(name(), iodata(), #{data => term(), retryable => boolean()}) -> {mlports_failure, failure()}.
failure(Code, Message, More) ->
    {mlports_failure, More#{code => Code, message => unicode:characters_to_binary(Message)}}.

text(Name) when is_atom(Name) -> atom_to_binary(Name);
text(Name) -> unicode:characters_to_binary(Name).
