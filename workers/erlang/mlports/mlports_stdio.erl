%% The descriptors that frames travel on, and where all that is printed goes instead: to standard error.
-module(mlports_stdio).

-export([take/0]).

%% Prepares this VM and gives what opens the channel: its owner then gets {Channel, {data, Bytes}} and {Channel, eof}.
-spec take() -> fun(() -> {port(), fun((iodata()) -> true)}).
take() ->
    ok = os:set_signal(sigterm, default),
    Descriptors = case os:getenv("MLPORTS_TRANSPORT") of
                      "fd34" -> {fd, 3, 4};
                      _ -> print_to_standard_error(), {fd, 0, 1}
                  end,
    fun() ->
        %% Not {packet, 4}: that allocates whatever a length says, and takes an end inside a frame for a clean one.
        Port = open_port(Descriptors, [stream, binary, eof]),
        {Port, fun(Data) -> port_command(Port, Data) end}
    end.

%% `run` gives the VM a standard output that is standard error. Without it, what prints by Erlang's means is caught here:
%% io, the logger and erlang:display go by the process `user` or the group leader.
print_to_standard_error() ->
    Printer = spawn(fun relay/0),
    unregister(user),
    register(user, Printer),
    group_leader(Printer, self()).

relay() ->
    receive
        Request when element(1, Request) =:= io_request -> standard_error ! Request;
        _ -> ok
    end,
    relay().
