%% A method for each thing that workers can do: what `mlports check` asks for.
-module(conformance).

-export([start/0]).

start() ->
    mlports_worker:run("conformance", [
        {setup, fun(_) -> ets:new(marks, [named_table, public, ordered_set]) end},
        {method, "echo", fun(Value) -> Value end},
        {method, "add", fun(A, B) -> A + B end, [idempotent]},
        {method, "fail", fun(Message) -> error(Message) end},
        {method, "refuse", fun mlports_worker:fail/2},
        {method, "sleep", fun(Seconds) -> timer:sleep(round(1000 * Seconds)), Seconds end},
        {method, "print", fun(Text) -> io:format("~ts~n", [Text]), nil end},
        {batch, "root", fun(Numbers) -> [root(N) || N <- Numbers] end, [idempotent]},
        {stream, "count", fun(N) -> [mlports_worker:item(I) || I <- lists:seq(0, N - 1)] end},
        {method, "total", fun(Input) -> mlports_worker:fold(fun erlang:'+'/2, 0, Input) end, [input]},
        {method, "relay", fun relay/2},
        {method, "note", fun(Level, Text) -> mlports_worker:log(Level, Text), nil end},
        {method, "advance", fun(N) -> [mlports_worker:progress(I, N) || I <- lists:seq(1, N)], N end},
        {method, "mark", fun(Value) -> ets:insert(marks, {ets:info(marks, size), Value}), nil end},
        {method, "marks", fun() -> [Value || {_, Value} <- ets:tab2list(marks)] end}
    ]).

root(N) when is_number(N), N >= 0 -> math:sqrt(N);
root(N) -> mlports_worker:failure(invalid_argument, io_lib:format("no root of ~p", [N])).

relay(Target, Params) ->
    case mlports_worker:call(Target, Params) of
        {ok, Result} -> Result;
        {error, Failure} -> mlports_worker:fail(Failure)
    end.
