%% An Erlang node that uses the model: by open_port and {packet, 4} alone, with and without the SDK at the other end, and
%% by mlports_port, which does the same and watches over it.
%%
%%     erl -noinput -pa FOLDER -s erlang_host main -extra ROWS MODEL PYTHON ML_MODEL BARE_MODEL ANSWERS
%%
%% ROWS and ANSWERS are files of MessagePack: a list of rows; for each of the three ways the answers,
%% each [error, result].
-module(erlang_host).
-export([main/0]).

main() ->
    [RowsFile, Model, Python, MlModel, BareModel, AnswersFile] = init:get_plain_arguments(),
    {ok, Packed} = file:read_file(RowsFile),
    {ok, Rows} = mlports_msgpack:decode(Packed),
    Config = #{<<"model">> => unicode:characters_to_binary(Model)},
    Answers = #{<<"bare, open_port">> => with_port([Python, BareModel, Model], none, Rows),
                <<"sdk, open_port">> => with_port([Python, MlModel], Config, Rows),
                <<"sdk, mlports_port">> => with_module([Python, MlModel], Config, Rows)},
    ok = file:write_file(AnswersFile, mlports_msgpack:encode(Answers)),
    halt(0).

%% A port as Erlang has it. A bare program is asked at once; one by the SDK is greeted first, and told to stop at the end.
with_port([Program | Arguments], Config, Rows) ->
    Port = open_port({spawn_executable, Program}, [{args, Arguments}, {packet, 4}, binary, exit_status]),
    Config =:= none orelse greet(Port, Config),
    Told = [request(Port, 1, <<"predict">>, [Row]) || Row <- Rows],
    case Config of
        none -> port_close(Port);  % the end of its input is the end of it
        _ ->
            send(Port, [2, <<"$/stop">>, [<<"done">>]]),
            receive {Port, {exit_status, 0}} -> ok end
    end,
    Told.

greet(Port, Config) ->
    Hello = #{<<"protocol">> => #{<<"min">> => 1, <<"max">> => 1}, <<"config">> => Config},
    [nil, #{<<"name">> := <<"ml_model">>}] = request(Port, 0, <<"$/hello">>, [Hello]).

request(Port, Id, Method, Params) ->
    send(Port, [0, Id, Method, Params]),
    receive
        {Port, {data, Data}} ->
            {ok, [1, Id, Error, Result | _]} = mlports_msgpack:decode(Data),
            [Error, Result];
        {Port, {exit_status, Status}} -> error({exit_status, Status})
    end.

send(Port, Message) -> port_command(Port, mlports_msgpack:encode(Message)).

with_module(Command, Config, Rows) ->
    {ok, Worker} = mlports_port:start_link(#{command => Command, config => Config}),
    Ask = fun(Row) ->
              case mlports_port:call(Worker, predict, [Row]) of
                  {ok, Result} -> [nil, Result];
                  {error, Error} -> [Error, nil]
              end
          end,
    Told = [Ask(Row) || Row <- Rows],
    ok = mlports_port:stop(Worker),
    Told.
