%% Digits recognised by a net of processes, one for each neuron.
-module(neural_net_worker).

-export([start/0]).

start() ->
    mlports_worker:run("neural_net", [
        {setup, fun setup/1},
        {method, "fit", [fun fit/2, fun fit/3]},
        {method, "predict", fun predict/1, [idempotent]},
        {method, "vote", fun vote/1, [idempotent]},
        {method, "learn", fun learn/4, [idempotent]}
    ]).

setup(#{<<"data">> := Path}) ->
    {ok, Text} = file:read_file(Path),
    Rows = [[number(Field) || Field <- binary:split(Line, <<",">>, [global])]
            || Line <- binary:split(Text, [<<"\n">>, <<"\r">>], [global]), Line =/= <<>>],
    net(fitted([lists:droplast(Row) || Row <- Rows], [trunc(lists:last(Row)) || Row <- Rows], #{}));
setup(_) -> none.

number(Field0) ->
    Field = string:trim(Field0),
    try binary_to_float(Field) catch error:badarg -> binary_to_integer(Field) end.

net({Net, Classes, Scale, _}) -> {Net, Classes, Scale}.

%% Trains on the rows x and their labels y. Options: hidden (16 neurons), epochs (3), rate (0.5), seed (1).
fit(X, Y) -> fit(X, Y, #{}).

fit(X, Y, Options) ->
    Old = mlports_worker:state(),
    {_, Classes, _, Error} = Fitted = fitted(listed(X), listed(Y), Options),
    mlports_worker:set_state(net(Fitted)),
    is_tuple(Old) andalso neural_net:stop(element(1, Old)),
    #{classes => Classes, rows => length(listed(Y)), error => Error}.

fitted(Rows, Labels, Options) when length(Rows) =:= length(Labels), Rows =/= [] ->
    Option = fun(Name, Default) -> maps:get(Name, Options, Default) end,
    Classes = lists:usort(Labels),
    Scale = max(1, lists:max([lists:max(Row) || Row <- Rows])),
    {ok, Net} = neural_net:start_link([length(hd(Rows)), Option(<<"hidden">>, 16), length(Classes)],
                                      #{seed => Option(<<"seed">>, 1), rate => Option(<<"rate">>, 0.5)}),
    Samples = lists:zip([[P / Scale || P <- Row] || Row <- Rows], [one_hot(Label, Classes) || Label <- Labels]),
    Epochs = Option(<<"epochs">>, 3),
    Error = lists:foldl(fun(Epoch, _) -> epoch(Net, Samples, Epoch, Epochs) end, 0.0, lists:seq(1, Epochs)),
    {Net, Classes, Scale, Error};
fitted(_, _, _) -> mlports_worker:fail(invalid_argument, "x and y have as many rows, at least one").

%% The mean squared error of an epoch.
epoch(Net, Samples, Epoch, Epochs) ->
    mlports_worker:progress(Epoch - 1, Epochs),
    Errors = [squared(neural_net:backprop(Net, Row, Target), Target) || {Row, Target} <- Samples],
    lists:sum(Errors) / length(Errors).

squared(Outputs, Targets) -> lists:sum([(O - T) * (O - T) || {O, T} <- lists:zip(Outputs, Targets)]).

one_hot(Label, Classes) -> [case Class of Label -> 1.0; _ -> 0.0 end || Class <- Classes].

predict(X) ->
    case mlports_worker:state() of
        {Net, Classes, Scale} -> [label(neural_net:predict(Net, [P / Scale || P <- Row]), Classes) || Row <- listed(X)];
        _ -> mlports_worker:fail(failed_precondition, "nothing was learnt yet: call fit, or give config data")
    end.

label(Outputs, Classes) ->
    {_, Class} = lists:max(lists:zip(Outputs, Classes)),
    Class.

%% A stage of a pipeline: adds what it takes the record's rows x for.
vote(#{<<"x">> := X} = Record) ->
    Votes = maps:get(<<"votes">>, Record, #{}),
    Record#{<<"votes">> => Votes#{<<"erlang">> => predict(X)}}.

%% Steps of learning with given weights and rate: what the net gives before each, and the weights behind the last.
learn(Weights, Rate, Rows, Targets) ->
    Sizes = [length(hd(Rows)) | [length(Layer) || Layer <- Weights]],
    {ok, Net} = neural_net:start_link(Sizes, #{weights => Weights, rate => Rate}),
    Outputs = [neural_net:backprop(Net, Row, Target) || {Row, Target} <- lists:zip(Rows, Targets)],
    Learnt = neural_net:weights(Net),
    neural_net:stop(Net),
    #{outputs => Outputs, weights => Learnt}.

listed({ndarray, _, _, _} = Array) -> mlports_ndarray:to_list(Array);
listed(List) when is_list(List) -> [listed(Each) || Each <- List];
listed(Value) -> Value.
