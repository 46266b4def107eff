%% A worker: a program whose methods mlports calls, in a process of its own.
-module(worker).

-export([start/0]).

start() ->
    mlports_worker:run("@NAME@", [
        {setup, fun setup/1},
        {method, "describe", fun describe/0},
        {batch, "predict", fun predict/1, [idempotent]},
        {stream, "steps", [fun steps/1, fun steps/2]}
    ]).

%% Called once, before the first call, with `config` from mlports.toml: the place to load a model. What it gives is
%% what mlports_worker:state() gives, in every handler.
setup(Config) ->
    {maps:get(<<"slope">>, Config, 1.0), maps:get(<<"intercept">>, Config, 0.0)}.

%% A plain method: arguments in, a value out. What it prints goes to the log and never breaks the protocol.
describe() ->
    io:format("somebody asked what this is~n"),
    {Slope, Intercept} = mlports_worker:state(),
    #{kind => line, slope => Slope, intercept => Intercept}.

%% A batch method: a list of arguments in, as many results out, so that a model can work on many at once.
%% A failure in a result's place is that item's error. `idempotent` lets mlports repeat a call after a crash.
predict(Xs) -> [predict_one(X) || X <- Xs].

predict_one(X) when is_number(X) ->
    {Slope, Intercept} = mlports_worker:state(),
    Slope * X + Intercept;
predict_one(X) ->
    mlports_worker:failure(invalid_argument, io_lib:format("a number is needed, not ~p", [X])).

%% A stream: each item waits until the caller has room for it.
steps(N) -> steps(N, 0.1).

steps(N, Seconds) ->
    [begin
         timer:sleep(round(1000 * Seconds)),
         mlports_worker:progress(I, N),
         mlports_worker:item(I)
     end || I <- lists:seq(1, N)].
