%% A host: opens a worker written in any language as a port, calls it, and ends with it, so that an OTP supervisor
%% restarts it as it restarts any child. README.md and docs/erlang.md show supervision trees.
-module(mlports_port).

-export([start_link/1, child_spec/2, stop/1, info/1]).
-export([call/3, call/4, async/3, async/4, await/1, await/2, cast/3, stream/3, stream/4, next/1, fold/3, cancel/1]).
-export_type([options/0, call_options/0, stream/0, result/0]).

-type options() :: #{
    command := [file:name_all()],        % the program, looked for on the path, and its arguments
    name => gen_server:server_name(),    % to register under
    service => binary(), replica => non_neg_integer(), config => map(),   % what $/hello says
    env => [{string(), string() | false}], cd => file:name_all(),
    start_timeout => timeout(),          % for the answer to $/hello; 30000 ms
    shutdown => timeout(),               % for its end after $/stop, before it is killed; 5000 ms
    max_frame => pos_integer(),          % bytes that the worker may send in one message; 67108864
    on_call => fun((Method :: binary(), Params :: list()) -> result())    % serves calls that the worker makes
}.
-type call_options() :: timeout() | #{timeout => timeout(), input => list(), meta => map()}.
-type result() :: {ok, term()} | {error, mlports_worker:failure()}.
-opaque stream() :: {pid() | atom(), reference(), reference()}.

-define(TIMEOUT, 30000).

%% Starts the worker and returns when it is ready to serve: it has answered $/hello.
%% Otherwise {error, {exit_status, N}}, {error, start_timeout}, or {error, {violation, Name, Text}}.
-spec start_link(options()) -> gen_server:start_ret().
start_link(#{name := Name} = Options) -> gen_server:start_link(Name, mlports_port_server, Options, [{timeout, infinity}]);
start_link(Options) -> gen_server:start_link(mlports_port_server, Options, [{timeout, infinity}]).

%% A permanent child. Its shutdown leaves the worker its own time first.
-spec child_spec(term(), options()) -> supervisor:child_spec().
child_spec(Id, Options) ->
    Shutdown = case maps:get(shutdown, Options, 5000) of
                   infinity -> infinity;
                   Time -> Time + 2000
               end,
    #{id => Id, start => {?MODULE, start_link, [Options]}, restart => permanent, shutdown => Shutdown,
      type => worker, modules => [mlports_port_server]}.

%% Asks the worker to finish what it has and to end; kills it when its time for that is over.
-spec stop(gen_server:server_ref()) -> ok.
stop(Server) -> gen_server:stop(Server).

%% What the worker said of itself: name, language, sdk, methods, features, concurrency; and its os_pid.
-spec info(gen_server:server_ref()) -> map().
info(Server) -> gen_server:call(Server, info).

%% Calls a method and waits for its result; 30000 ms unless told otherwise. Never raises: a worker that is not there, or
%% dies meanwhile, is the error `unavailable`.
-spec call(gen_server:server_ref(), binary() | string() | atom(), list()) -> result().
call(Server, Method, Params) -> call(Server, Method, Params, #{}).

-spec call(gen_server:server_ref(), binary() | string() | atom(), list(), call_options()) -> result().
call(Server, Method, Params, Options) ->
    case request(Method, Params, Options) of
        {ok, Request} ->
            try gen_server:call(Server, Request, infinity) catch exit:{Reason, _} -> lost(Reason) end;
        Error -> Error
    end.

%% The same without waiting: the result is `await`ed later.
-spec async(gen_server:server_ref(), binary() | string() | atom(), list()) -> term().
async(Server, Method, Params) -> async(Server, Method, Params, #{}).

-spec async(gen_server:server_ref(), binary() | string() | atom(), list(), call_options()) -> term().
async(Server, Method, Params, Options) ->
    case request(Method, Params, Options) of
        {ok, Request} -> {sent, gen_server:send_request(Server, Request)};
        Error -> {failed, Error}
    end.

-spec await(term()) -> result().
await(Sent) -> await(Sent, infinity).

-spec await(term(), timeout()) -> result() | timeout.
await({failed, Error}, _) -> Error;
await({sent, Id}, Timeout) ->
    case gen_server:wait_response(Id, Timeout) of
        {reply, Result} -> Result;
        timeout -> timeout;
        {error, {Reason, _}} -> lost(Reason)
    end.

%% Runs the method and waits for nothing; nobody learns whether it failed.
-spec cast(gen_server:server_ref(), binary() | string() | atom(), list()) -> ok.
cast(Server, Method, Params) ->
    gen_server:cast(Server, {cast, mlports_msgpack:encode([2, text(Method), Params])}).

%% Begins a streamed answer, whose items `next` or `fold` takes, in this process. The worker is held when nobody takes.
-spec stream(gen_server:server_ref(), binary() | string() | atom(), list()) -> {ok, stream()} | {error, mlports_worker:failure()}.
stream(Server, Method, Params) -> stream(Server, Method, Params, #{}).

-spec stream(gen_server:server_ref(), binary() | string() | atom(), list(), call_options()) ->
    {ok, stream()} | {error, mlports_worker:failure()}.
stream(Server, Method, Params, Options) ->
    case request(Method, Params, Options) of
        {ok, {call, M, P, Meta, More}} ->
            Ref = make_ref(),
            Monitor = monitor(process, Server),
            gen_server:cast(Server, {stream, {self(), Ref}, {call, M, P, Meta, More}}),
            {ok, {Server, Ref, Monitor}};
        Error -> Error
    end.

%% The next item; {done, Result} behind the last.
-spec next(stream()) -> {item, term()} | {done, term()} | {error, mlports_worker:failure()}.
next({Server, Ref, Monitor}) ->
    receive
        {mlports_item, Ref, Item} -> gen_server:cast(Server, {taken, Ref}), {item, Item};
        {mlports_done, Ref, Result} ->
            demonitor(Monitor, [flush]),
            case Result of {ok, Value} -> {done, Value}; Error -> Error end;
        {'DOWN', Monitor, process, _, Reason} -> lost(Reason)
    end.

-spec fold(fun((term(), Acc) -> Acc), Acc, stream()) -> {ok, Acc} | {error, mlports_worker:failure()}.
fold(Fun, Acc, Stream) ->
    case next(Stream) of
        {item, Item} -> fold(Fun, Fun(Item, Acc), Stream);
        {done, _} -> {ok, Acc};
        Error -> Error
    end.

%% Takes no more of it: the worker is told, and what is on the way is dropped.
-spec cancel(stream()) -> ok.
cancel({Server, Ref, Monitor}) ->
    demonitor(Monitor, [flush]),
    gen_server:cast(Server, {cancel, Ref}),
    dropped(Ref).

dropped(Ref) ->
    receive
        {mlports_item, Ref, _} -> dropped(Ref);
        {mlports_done, Ref, _} -> ok
    after 0 -> ok
    end.

%% Checked here, so that what cannot be sent fails its caller and not the port.
request(Method, Params, Options) when is_map(Options) ->
    Timeout = maps:get(timeout, Options, ?TIMEOUT),
    Meta = maps:get(meta, Options, #{}),
    Input = maps:get(input, Options, none),
    try mlports_msgpack:encode([Params, Meta, if Input =:= none -> []; true -> Input end]) of
        _ -> {ok, {call, text(Method), Params, Meta, {Timeout, Input}}}
    catch
        error:{unencodable, Text} ->
            {error, #{code => invalid_argument, message => <<"the arguments cannot be sent: ", Text/binary>>}}
    end;
request(Method, Params, Timeout) -> request(Method, Params, #{timeout => Timeout}).

lost(Reason) ->
    Text = iolist_to_binary(io_lib:format("there is no worker: ~0tP", [Reason, 12])),
    {error, #{code => unavailable, message => Text, data => nil, retryable => false}}.

text(Name) when is_atom(Name) -> atom_to_binary(Name);
text(Name) -> unicode:characters_to_binary(Name).
