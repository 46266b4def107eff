%% One request or cast, in a process of its own: calls the handler and answers for it.
-module(mlports_job).

-export([handlers/1, info/1, start/1, context/0, passed_on/1, earlier/2, item/1, next_input/0, error_map/3]).
-export_type([handler/0, job/0]).

-type handler() :: #{name := binary(), kind := method | batch | stream, functions := #{arity() => function()},
                     idempotent := boolean(), input := boolean()}.
%% id: nil for a cast. until: monotonic milliseconds, or infinity.
-type job() :: #{id := non_neg_integer() | nil, handler := handler(), params := list(), meta := mlports_wire:meta(),
                 until := integer() | infinity, server := pid(), max_frame := pos_integer()}.

-define(CONTEXT, '$mlports_context').
-define(CREDIT, '$mlports_credit').
-define(WINDOW, '$mlports_window').
-define(WINDOW_BYTES, 1048576).

%% The methods in a worker's list, by name.
-spec handlers([mlports_worker:handler()]) -> #{binary() => handler()}.
handlers(List) -> maps:from_list([handler(Each) || Each <- List, tuple_size(Each) > 2]).

handler({Kind, Name, Functions}) -> handler({Kind, Name, Functions, []});
handler({Kind, Name0, Functions, Flags}) when Kind =:= method; Kind =:= batch; Kind =:= stream ->
    Name = case is_atom(Name0) of
               true -> atom_to_binary(Name0);
               false -> unicode:characters_to_binary(Name0)
           end,
    ByArity = maps:from_list([{arity(F), F} || F <- lists:flatten([Functions])]),
    {Name, #{name => Name, kind => Kind, functions => ByArity, idempotent => lists:member(idempotent, Flags),
             input => lists:member(input, Flags)}}.

arity(Function) -> element(2, erlang:fun_info(Function, arity)).

%% What $/hello's answer tells of it.
info(#{kind := Kind, idempotent := Idempotent, input := Input}) ->
    Info = #{batch => Kind =:= batch, stream => Kind =:= stream, idempotent => Idempotent},
    case Input of true -> Info#{input => true}; false -> Info end.

-spec start(job()) -> {pid(), reference()}.
start(Job) -> spawn_monitor(fun() -> run(Job) end).

%% Of the job that this process is; #{} in any other.
context() ->
    case get(?CONTEXT) of
        undefined -> #{};
        Context -> Context
    end.

%% The meta that calls made for this request carry.
passed_on(#{id := Id, meta := Meta}) ->
    Passed = maps:with([<<"traceparent">>], Meta),
    case Id of nil -> Passed; _ -> Passed#{<<"parent">> => Id} end;
passed_on(_) -> #{}.

earlier(infinity, Other) -> Other;
earlier(Limit, infinity) -> Limit;
earlier(Limit, Other) -> min(Limit, Other).

run(#{id := Id, handler := #{name := Name}, server := Server, max_frame := Max} = Job) ->
    put(?CONTEXT, maps:with([id, meta, until, server], Job)),
    Answer = try outcome(Job) of
                 {packed, Result} -> {result, Result};
                 Result -> {result, packed(Result, Name)}
             catch
                 Class:Reason:Stack -> {error, error_map(Class, Reason, Stack)}
             end,
    case {Answer, Id} of
        {{error, Error}, nil} -> warn(Name, Error);
        {_, nil} -> ok;
        {{error, Error}, _} -> Server ! {answer, Id, error_payload(Id, Error)};
        {{result, Bytes}, _} -> Server ! {answer, Id, result_payload(Id, Bytes, Max, Name)}
    end.

warn(Name, #{message := Message}) ->
    mlports_worker:log(error, ["the cast to ", Name, " failed: ", Message]).

packed(Result, Name) ->
    try mlports_msgpack:encode(Result, 1)
    catch error:{unencodable, Text} -> mlports_worker:fail(internal, ["the result of ", Name, " cannot be sent: ", Text])
    end.

result_payload(Id, Bytes, Max, Name) ->
    Payload = [<<16#94, 1>>, mlports_msgpack:encode(Id), 16#c0, Bytes],
    case iolist_size(Payload) of
        Size when Size > Max ->
            Text = io_lib:format("the result of ~ts has ~b bytes, the caller takes ~b at most", [Name, Size, Max]),
            error_payload(Id, #{code => resource_exhausted, message => iolist_to_binary(Text)});
        _ -> Payload
    end.

error_payload(Id, Error) ->
    try mlports_msgpack:encode([1, Id, Error, nil])
    catch error:{unencodable, _} -> mlports_msgpack:encode([1, Id, maps:with([code, message], Error), nil])
    end.

outcome(#{meta := #{<<"batch">> := _}, handler := Handler, params := Items}) ->
    {packed, pairs(results(Handler, Items), Handler)};
outcome(#{handler := #{kind := batch} = Handler, params := Params}) ->
    case results(Handler, [Params]) of
        [{ok, Result}] -> Result;
        [{error, Error}] -> mlports_worker:fail(Error)
    end;
outcome(#{handler := #{kind := stream} = Handler, params := Params, meta := #{<<"credit">> := Credit}} = Job) ->
    put(?CREDIT, Credit),
    apply_to(Handler, with_input(Job, Params)),
    nil;
outcome(#{handler := Handler, params := Params} = Job) ->
    one(Handler, with_input(Job, Params)).

with_input(#{meta := #{<<"input">> := true}}, Params) -> Params ++ [mlports_input];
with_input(_, Params) -> Params.

%% The result of one call by itself; a stream's is the list of its items.
one(#{kind := stream} = Handler, Params) ->
    put(?CREDIT, []),
    apply_to(Handler, Params),
    lists:reverse(get(?CREDIT));
one(Handler, Params) -> apply_to(Handler, Params).

apply_to(#{functions := Functions} = Handler, Params) ->
    case Functions of
        #{length(Params) := Function} -> apply(Function, Params);
        _ -> mlports_worker:fail(invalid_argument, arity_text(Handler, length(Params)))
    end.

arity_text(#{name := Name, functions := Functions, input := Input}, Given) ->
    Streamed = case Input of true -> 1; false -> 0 end,
    Due = lists:join(" or ", [integer_to_list(N - Streamed) || N <- lists:sort(maps:keys(Functions))]),
    io_lib:format("~ts takes ~s arguments, not ~b", [Name, Due, Given - Streamed]).

%% The outcome of each call in a batch: {ok, Result} or {error, Error}.
results(#{kind := batch, functions := Functions} = Handler, Items) ->
    Arity = case Items of [First | _] when is_list(First) -> length(First); _ -> 0 end,
    Same = lists:all(fun(Params) -> is_list(Params) andalso length(Params) =:= Arity end, Items),
    case Functions of
        #{Arity := Function} when Same, Arity > 0 -> columns(Function, Items, Handler);
        _ when length(Items) > 1 -> lists:append([results(Handler, [Item]) || Item <- Items]);
        _ -> [{error, #{code => invalid_argument, message => iolist_to_binary(arity_text(Handler, Arity))}}]
    end;
results(Handler, Items) -> [attempt(fun() -> one(Handler, arguments(Params)) end) || Params <- Items].

arguments(Params) when is_list(Params) -> Params;
arguments(_) -> mlports_worker:fail(invalid_argument, "a call in a batch is an array of its arguments").

columns(Function, Items, #{name := Name, idempotent := Idempotent} = Handler) ->
    case attempt(fun() -> apply(Function, transposed(Items)) end) of
        {ok, Results} when is_list(Results), length(Results) =:= length(Items) ->
            [case Result of {mlports_failure, Error} -> {error, Error}; _ -> {ok, Result} end || Result <- Results];
        {ok, _} ->
            mlports_worker:fail(internal, io_lib:format("~ts did not give ~b results", [Name, length(Items)]));
        {error, Error} when length(Items) =:= 1 -> [{error, Error}];
        %% One item may have spoilt it for all. Doing it again one by one tells which, where that is allowed.
        {error, _} when Idempotent -> lists:append([columns(Function, [Item], Handler) || Item <- Items]);
        {error, Error} -> mlports_worker:fail(Error)
    end.

transposed([[] | _]) -> [];
transposed(Rows) -> [[hd(Row) || Row <- Rows] | transposed([tl(Row) || Row <- Rows])].

attempt(Fun) ->
    try {ok, Fun()} catch Class:Reason:Stack -> {error, error_map(Class, Reason, Stack)} end.

%% [error, result] for each, one that cannot be encoded failing alone.
pairs(Results, #{name := Name}) ->
    Packed = [pair(Result, Name) || Result <- Results],
    [array_header(length(Packed)) | Packed].

pair({ok, Result}, Name) ->
    try mlports_msgpack:encode([nil, Result], 2)
    catch error:{unencodable, Text} ->
        Message = iolist_to_binary(["the result of ", Name, " cannot be sent: ", Text]),
        mlports_msgpack:encode([#{code => internal, message => Message}, nil])
    end;
pair({error, Error}, _) ->
    try mlports_msgpack:encode([Error, nil], 2)
    catch error:{unencodable, _} -> mlports_msgpack:encode([maps:with([code, message], Error), nil])
    end.

array_header(N) when N < 16 -> <<2#1001:4, N:4>>;
array_header(N) when N < 1 bsl 16 -> <<16#dc, N:16>>;
array_header(N) -> <<16#dd, N:32>>.

%% Sends one item within credit; without credit, keeps it for the result.
item(Value) ->
    case get(?CREDIT) of
        undefined -> error({mlports_failure, #{code => failed_precondition,
                                               message => <<"item/1 is for the process of a stream's handler">>}});
        Items when is_list(Items) -> put(?CREDIT, [Value | Items]), ok;
        Credit ->
            Left = credit(Credit),
            #{id := Id, server := Server} = context(),
            Server ! {frame, mlports_msgpack:encode([2, <<"$/item">>, [Id, Value]])},
            put(?CREDIT, Left - 1),
            ok
    end.

credit(0) -> receive {mlports_credit, N} -> credit(N) end;
credit(Credit) -> receive {mlports_credit, N} -> credit(Credit + N) after 0 -> Credit end.

%% The window is how many items may be on the way or wait here; small while their size is not known.
next_input() ->
    case get(?WINDOW) of
        done -> done;
        Window -> take(let_come(Window))
    end.

let_come(undefined) -> grant(4, {0, 4});
let_come({Due, Window}) when 2 * Due =< Window -> grant(Window - Due, {Due, Window});
let_come(State) -> State.

grant(N, {Due, Window}) ->
    #{id := Id, server := Server} = context(),
    Server ! {input_credit, Id, N},
    {Due + N, Window}.

take({Due, _} = State) ->
    receive
        {mlports_input, Value, Size} ->
            put(?WINDOW, {Due - 1, max(1, min(64, ?WINDOW_BYTES div max(1, Size)))}),
            {ok, Value};
        mlports_input_end -> put(?WINDOW, done), done;
        mlports_input_cut ->
            put(?WINDOW, State),
            mlports_worker:fail(unavailable, "the orchestrator went away within a streamed argument")
    end.

%% What an exception is to the caller.
-spec error_map(error | exit | throw, term(), list()) -> mlports_worker:failure().
error_map(error, {mlports_failure, Failure}, _) -> Failure;
error_map(Class, Reason, Stack) ->
    Type = type(Class, Reason),
    Text = unicode:characters_to_binary(text(Reason)),
    Message = re:replace(<<Type/binary, ": ", Text/binary>>, "\\s*[\\r\\n]+\\s*", " ", [global, {return, binary}, unicode]),
    Trace = unicode:characters_to_binary(erl_error:format_exception(Class, Reason, Stack)),
    #{code => unknown, message => Message, data => #{type => Type, traceback => Trace}}.

type(error, Reason) when is_atom(Reason) -> atom_to_binary(Reason);
type(error, Reason) when is_tuple(Reason), is_atom(element(1, Reason)) -> atom_to_binary(element(1, Reason));
type(Class, _) -> atom_to_binary(Class).

text(Text) when is_binary(Text) -> printable(Text);
text({Type, Text}) when is_atom(Type), is_binary(Text) -> printable(Text);
text(Reason) ->
    case io_lib:printable_unicode_list(Reason) of
        true -> Reason;
        false -> io_lib:format("~0tP", [Reason, 30])
    end.

printable(Text) ->
    case unicode:characters_to_binary(Text) of
        Text -> Text;
        _ -> io_lib:format("~0tp", [Text])
    end.
