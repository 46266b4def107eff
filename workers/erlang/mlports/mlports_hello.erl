%% What $/hello and its answer say (5.1, 5.2), checked.
-module(mlports_hello).

-export([checked/1, answer/1, failure/1]).

-define(CODES, [cancelled, unknown, invalid_argument, deadline_exceeded, not_found, permission_denied, resource_exhausted,
                failed_precondition, unimplemented, internal, unavailable, data_loss, unauthenticated]).

%% The orchestrator's hello, from its params.
-spec checked([term()]) -> #{max_frame := pos_integer(), features := [binary()], config := map()}.
checked([Map | _]) when is_map(Map) ->
    Fields = mlports_wire:fields(Map),
    version(Fields),
    Max = field(<<"max_frame">>, Fields, mlports_wire:default_max_frame(), fun mlports_wire:is_max_frame/1),
    Features = field(<<"features">>, Fields, [], fun(L) -> mlports_wire:features(L) =/= error end),
    field(<<"service">>, Fields, <<>>, fun is_text/1),
    field(<<"replica">>, Fields, 0, fun mlports_wire:is_count/1),
    Config = field(<<"config">>, Fields, nil, fun is_map_or_nil/1),
    field(<<"shm">>, Fields, nil, fun is_segment/1),
    #{max_frame => Max, features => mlports_wire:features(Features), config => if Config =:= nil -> #{}; true -> Config end};
checked(_) -> invalid("its params are one map", []).

version(#{<<"protocol">> := Range}) when is_map(Range) ->
    case mlports_wire:fields(Range) of
        #{<<"min">> := Min, <<"max">> := Max} when is_integer(Min), is_integer(Max) ->
            Min =< 1 andalso Max >= 1
                orelse mlports_wire:violation('UnsupportedVersion', "the orchestrator speaks ~b to ~b, this worker 1", [Min, Max]);
        _ -> invalid("protocol is {min, max}", [])
    end;
version(_) -> invalid("protocol is {min, max}", []).

%% A worker's answer.
-spec answer(term()) -> #{name := binary(), max_frame := pos_integer(), methods := map() | nil, features := [binary()],
                          concurrency := pos_integer(), language := binary(), sdk := binary()}.
answer(Map) when is_map(Map) ->
    Fields = mlports_wire:fields(Map),
    case Fields of
        #{<<"protocol">> := 1} -> ok;
        #{<<"protocol">> := Other} when is_integer(Other) ->
            mlports_wire:violation('UnsupportedVersion', "the worker chose version ~b, which was not offered", [Other]);
        _ -> invalid("protocol is an integer", [])
    end,
    Text = fun(Key) -> mlports_wire:text(field(Key, Fields, <<>>, fun is_text/1)) end,
    #{name => Text(<<"name">>), language => Text(<<"language">>), sdk => Text(<<"sdk">>),
      max_frame => field(<<"max_frame">>, Fields, mlports_wire:default_max_frame(), fun mlports_wire:is_max_frame/1),
      features => mlports_wire:features(field(<<"features">>, Fields, [], fun(L) -> mlports_wire:features(L) =/= error end)),
      concurrency => field(<<"concurrency">>, Fields, 1, fun(N) -> is_integer(N) andalso N >= 1 end),
      methods => methods(maps:get(<<"methods">>, Fields, nil))};
answer(_) -> invalid("its result is a map", []).

methods(nil) -> nil;
methods(List) when is_list(List) -> maps:from_list([{method(Name), #{}} || Name <- List]);
methods(Map) when is_map(Map) -> maps:from_list([{method(Name), flags(Flags)} || {Name, Flags} <- maps:to_list(Map)]);
methods(_) -> invalid("methods is a map, an array or nil", []).

method(Name) ->
    case mlports_wire:text(Name) of
        error -> invalid("a method's name is a string", []);
        Text -> Text
    end.

flags(Flags) when is_map(Flags) -> mlports_wire:fields(Flags);
flags(_) -> invalid("a method's flags are a map", []).

field(Key, Fields, Default, IsRight) ->
    Value = maps:get(Key, Fields, Default),
    IsRight(Value) orelse invalid("~ts: ~0tP", [Key, Value, 8]),
    Value.

is_text(Value) -> mlports_wire:text(Value) =/= error.

is_map_or_nil(Value) -> Value =:= nil orelse is_map(Value).

is_segment(nil) -> true;
is_segment(Map) when is_map(Map) ->
    case mlports_wire:fields(Map) of
        #{<<"segment">> := Path, <<"token">> := {bin, _}} ->
            is_text(Path) andalso re:run(mlports_wire:text(Path), "^/proc/[1-9][0-9]{0,9}/fd/[0-9]{1,9}\\z") =/= nomatch;
        _ -> false
    end;
is_segment(_) -> false.

%% An error of the wire in this language's words.
-spec failure(map()) -> mlports_worker:failure().
failure(#{<<"code">> := Name, <<"message">> := Message} = Error) ->
    Code = case [C || C <- ?CODES, atom_to_binary(C) =:= Name] of
               [Known] -> Known;
               [] -> unknown
           end,
    #{code => Code, message => Message, data => maps:get(<<"data">>, Error, nil),
      retryable => maps:get(<<"retryable">>, Error, false)}.

-spec invalid(string(), [term()]) -> no_return().
invalid(Format, Terms) -> mlports_wire:violation('InvalidHello', "$/hello: " ++ Format, Terms).
