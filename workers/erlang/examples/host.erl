%% An OTP application's way with a worker, on one page: a child of a supervisor, called, killed, and called again.
%%
%%     erl -noinput -pa build -s host main -extra METHOD ARGUMENT COMMAND…
-module(host).
-behaviour(supervisor).

-export([main/0, init/1]).

main() ->
    logger:set_handler_config(default, level, none),
    [Method, Argument | Command] = init:get_plain_arguments(),
    {ok, _} = supervisor:start_link(?MODULE, Command),
    show(Method, Argument),
    killed_when_called(Method, Argument),
    show(Method, Argument),
    halt(0).

init(Command) ->
    Options = #{command => Command, name => {local, worker}, service => <<"example">>},
    {ok, {#{strategy => one_for_one, intensity => 5, period => 10}, [mlports_port:child_spec(worker, Options)]}}.

show(Method, Argument) ->
    {ok, Result} = mlports_port:call(worker, Method, [unicode:characters_to_binary(Argument)]),
    io:format("~ts gave ~ts~n", [Method, if is_binary(Result) -> Result; true -> io_lib:format("~tp", [Result]) end]).

%% A worker that is stopped answers nothing: the call is under way when it is killed.
killed_when_called(Method, Argument) ->
    #{os_pid := OsPid} = mlports_port:info(worker),
    Old = whereis(worker),
    os:cmd(io_lib:format("kill -STOP ~b", [OsPid])),
    Call = mlports_port:async(worker, Method, [unicode:characters_to_binary(Argument)]),
    os:cmd(io_lib:format("kill -KILL ~b", [OsPid])),
    {error, #{code := Code}} = mlports_port:await(Call),
    io:format("killed while it was called: ~s~n", [Code]),
    wait_for_another(Old).

wait_for_another(Old) ->
    case whereis(worker) of
        Pid when is_pid(Pid), Pid =/= Old -> mlports_port:info(worker);
        _ -> receive after 10 -> wait_for_another(Old) end
    end.
