%% Frames and messages (sections 2 and 4), and what both sides of the handshake say (section 5).
%% A fault is thrown as {violation, Name, Text}, Name being one of section 13.
-module(mlports_wire).

-export([frames/1, feed/2, set_max_frame/2, ended/1, frame/1, parse/1, decode/2, violation/3]).
-export([text/1, fields/1, is_count/1, default_max_frame/0, is_max_frame/1, features/1]).
-export_type([message/0, frames/0, meta/0]).

-type meta() :: #{binary() => mlports_msgpack:value()}.
-type message() :: {request, non_neg_integer(), binary(), [mlports_msgpack:value()], meta()}
                 | {response, non_neg_integer(), nil | map(), mlports_msgpack:value(), meta()}
                 | {notification, binary(), [mlports_msgpack:value()], meta()}.

-define(DEFAULT_MAX_FRAME, 67108864).
-define(MAX_ID, 9007199254740991).

%% What has come of a frame: its pieces, the last first. Need: so many bytes until something can be told.
-record(frames, {pieces = [] :: [binary()], size = 0 :: non_neg_integer(), need = 4 :: pos_integer(),
                 max :: pos_integer()}).
-opaque frames() :: #frames{}.

default_max_frame() -> ?DEFAULT_MAX_FRAME.

%% A reader of frames of at most Max bytes.
-spec frames(pos_integer()) -> frames().
frames(Max) -> #frames{max = Max}.

-spec set_max_frame(pos_integer(), frames()) -> frames().
set_max_frame(Max, Frames) -> Frames#frames{max = Max}.

%% The payloads that are whole now, in order, and the reader; or, in its place, the fault behind them.
-spec feed(binary(), frames()) -> {[binary()], frames() | {violation, atom(), binary()}}.
feed(Data, Frames = #frames{pieces = Pieces, size = Size, need = Need}) ->
    case Size + byte_size(Data) of
        Now when Now < Need -> {[], Frames#frames{pieces = [Data | Pieces], size = Now}};
        _ when Pieces =:= [] -> split(Data, Frames, []);
        _ -> split(iolist_to_binary(lists:reverse(Pieces, [Data])), Frames, [])
    end.

split(<<0:32, _/binary>>, _, Payloads) ->
    {lists:reverse(Payloads), {violation, 'EmptyFrame', <<"a frame of no bytes">>}};
split(<<N:32, _/binary>> = Data, #frames{max = Max}, Payloads) when N > Max ->
    {lists:reverse(Payloads), too_large(N, Max, Data)};
split(<<N:32, Payload:N/binary, Rest/binary>>, Frames, Payloads) ->
    split(Rest, Frames, [Payload | Payloads]);
split(Rest, Frames, Payloads) ->
    Need = case Rest of
               <<N:32, _/binary>> -> 4 + N;
               _ -> 4
           end,
    Pieces = [Rest || Rest =/= <<>>],
    {lists:reverse(Payloads), Frames#frames{pieces = Pieces, size = byte_size(Rest), need = Need}}.

too_large(_, _, <<C, _/binary>> = Data) when C =:= 9; C =:= 10; C =:= 13; C =:= 27; C >= 32, C =< 126 ->
    Text = binary:part(Data, 0, min(80, byte_size(Data))),
    {violation, 'StdoutPolluted', iolist_to_binary(io_lib:format("printed where a frame was due: ~0tp", [Text]))};
too_large(N, Max, _) ->
    {violation, 'FrameTooLarge', iolist_to_binary(io_lib:format("a frame of ~b bytes, at most ~b are taken", [N, Max]))}.

%% Whether the stream may end here.
-spec ended(frames()) -> ok | {violation, atom(), binary()}.
ended(#frames{size = 0}) -> ok;
ended(#frames{size = Size}) ->
    {violation, 'TruncatedFrame', iolist_to_binary(io_lib:format("the input ended ~b bytes into a frame", [Size]))}.

-spec frame(iodata()) -> iodata().
frame(Payload) -> [<<(iolist_size(Payload)):32>> | Payload].

%% The message in a payload. Arrays: whether ndarray is agreed.
-spec decode(binary(), boolean()) -> message().
decode(Payload, Arrays) ->
    case mlports_msgpack:decode(Payload, Arrays) of
        {ok, Value} -> parse(Value);
        {error, Name, Text} -> violation(Name, "~ts", [Text])
    end.

-spec parse(mlports_msgpack:value()) -> message().
parse([0, Id, Method, Params | Rest]) when is_list(Params) -> {request, id(Id), method(Method), Params, meta(Rest)};
parse([1, Id, Error, Result | Rest]) -> {response, id(Id), failure(Error, Result), Result, meta(Rest)};
parse([2, Method, Params | Rest]) when is_list(Params) -> {notification, method(Method), Params, meta(Rest)};
parse(Other) -> invalid("none of the three messages: ~0tP", [Other, 12]).

id(Id) when is_integer(Id), Id >= 0, Id =< ?MAX_ID -> Id;
id(Id) -> invalid("no id of a request: ~0tP", [Id, 8]).

method(Name) ->
    case text(Name) of
        <<_, _/binary>> = Text -> Text;
        _ -> invalid("a method's name is a string, not empty: ~0tP", [Name, 8])
    end.

failure(nil, _) -> nil;
failure(Error, nil) when is_map(Error) ->
    case fields(Error) of
        #{<<"code">> := Code, <<"message">> := Message} = Fields ->
            is_boolean(maps:get(<<"retryable">>, Fields, false)) orelse invalid("retryable is a boolean", []),
            Fields#{<<"code">> := string(Code), <<"message">> := string(Message)};
        _ -> invalid("an error without code or message", [])
    end;
failure(Error, _) -> invalid("an error is nil or a map, and its result nil: ~0tP", [Error, 8]).

string(Value) ->
    case text(Value) of
        error -> invalid("a string is due, not ~0tP", [Value, 8]);
        Text -> Text
    end.

meta([]) -> #{};
meta([nil | _]) -> #{};
meta([Meta | _]) when is_map(Meta), map_size(Meta) =:= 0 -> Meta;
meta([Meta | _]) when is_map(Meta) ->
    Fields = fields(Meta),
    maps:foreach(fun is_right/2, Fields),
    Fields;
meta([Other | _]) -> invalid("meta is a map: ~0tP", [Other, 8]).

is_right(Key, Value) ->
    Right = case Key of
                <<"deadline_ms">> -> is_number(Value) andalso Value >= 0 orelse Value =:= infinity;
                <<"credit">> -> is_integer(Value) andalso Value >= 0;
                <<"input">> -> Value =:= true;
                <<"batch">> -> is_integer(Value) andalso Value >= 1;
                <<"columns">> -> Value =:= true;
                <<"parent">> -> is_integer(Value) andalso Value >= 0;
                <<"traceparent">> -> text(Value) =/= error;
                <<"idempotency_key">> -> text(Value) =/= error;
                _ -> is_binary(Key)
            end,
    Right orelse invalid("meta ~0tP: ~0tP", [Key, 8, Value, 8]).

%% A string of the protocol's own, which may have come as bin; `error` for anything else.
-spec text(mlports_msgpack:value()) -> binary() | error.
text(B) when is_binary(B) -> B;
text({bin, B}) ->
    case unicode:characters_to_binary(B) of
        B -> B;
        _ -> error
    end;
text(_) -> error.

%% A map of the protocol's own, its keys as str.
-spec fields(map()) -> map().
fields(Map) -> maps:fold(fun field/3, #{}, Map).

field({bin, _} = Key, Value, Fields) ->
    case text(Key) of
        error -> Fields#{Key => Value};
        Text -> Fields#{Text => Value}
    end;
field(Key, Value, Fields) -> Fields#{Key => Value}.

is_count(N) -> is_integer(N) andalso N >= 0.

is_max_frame(N) -> is_integer(N) andalso N >= 1 andalso N < 1 bsl 31.

%% The names in a list of features; `error` when it is none.
-spec features(term()) -> [binary()] | error.
features(List) when is_list(List) ->
    Names = [text(Name) || Name <- List],
    case lists:member(error, Names) of
        true -> error;
        false -> Names
    end;
features(_) -> error.

-spec invalid(string(), [term()]) -> no_return().
invalid(Format, Terms) -> violation('InvalidMessage', Format, Terms).

-spec violation(atom(), string(), [term()]) -> no_return().
violation(Name, Format, Terms) ->
    throw({violation, Name, iolist_to_binary(io_lib:format(Format, Terms))}).
