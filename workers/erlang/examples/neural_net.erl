%% A neural net with a process for each neuron. Values are cast from neuron to neuron: forwards what a neuron gives,
%% backwards the share of the error that each of its inputs had. Sigmoids, squared error, gradient descent, sample by sample.
-module(neural_net).
-behaviour(gen_server).

-export([start_link/1, start_link/2, stop/1, predict/2, backprop/3, weights/1]).
-export([init/1, handle_call/3, handle_cast/2]).

%% ends: the neurons of the first and of the last layer, in order.
-record(net, {neurons = [] :: [[pid()]], rate :: float()}).
%% sources and sinks: processes, by their place in this neuron's layer before and behind. came: what came of one sample.
-record(neuron, {index, sources = [], sinks = [], weights = [], bias = 0.0, rate, came = #{}, inputs = [], output = 0.0,
                 errors = #{}}).

%% start_link([2, 3, 1]): two inputs, three hidden neurons, one output.
%% Options: rate (0.5), seed (1), weights: for each layer behind the first, for each neuron, [Bias | Weights].
start_link(Sizes) -> start_link(Sizes, #{}).

start_link(Sizes, Options) -> gen_server:start_link(?MODULE, {Sizes, Options}, []).

stop(Net) -> gen_server:stop(Net).

%% The outputs for these inputs.
predict(Net, Inputs) -> gen_server:call(Net, {predict, Inputs}, infinity).

%% One step of learning: the outputs before it.
backprop(Net, Inputs, Targets) -> gen_server:call(Net, {backprop, Inputs, Targets}, infinity).

weights(Net) -> gen_server:call(Net, weights, infinity).

init({Sizes, Options}) ->
    Rate = maps:get(rate, Options, 0.5),
    Weights = maps:get(weights, Options, initial(Sizes, maps:get(seed, Options, 1))),
    Net = self(),
    Layers = [[spawn_link(fun() -> neuron(#neuron{index = I, weights = tl(W), bias = hd(W), rate = Rate}) end)
               || {I, W} <- lists:zip(lists:seq(1, length(Layer)), Layer)]
              || Layer <- [lists:duplicate(hd(Sizes), [0.0]) | Weights]],
    connect([[Net] | Layers] ++ [[Net]]),
    {ok, #net{neurons = Layers, rate = Rate}}.

initial(Sizes, Seed) ->
    Fans = lists:zip(lists:droplast(Sizes), tl(Sizes)),
    {Weights, _} = lists:mapfoldl(fun({In, Out}, State) -> layer(In, Out, State) end, rand:seed_s(exsss, Seed), Fans),
    Weights.

layer(In, Out, State) ->
    lists:mapfoldl(fun(_, S) -> lists:mapfoldl(fun(_, S0) -> uniform(In, S0) end, S, lists:seq(0, In)) end,
                   State, lists:seq(1, Out)).

uniform(In, State0) ->
    {U, State} = rand:uniform_s(State0),
    {(2 * U - 1) / math:sqrt(In), State}.

connect([Before, Layer, Behind | Rest]) ->
    [Neuron ! {connect, Before, Behind} || Neuron <- Layer],
    connect([Layer, Behind | Rest]);
connect(_) -> ok.

handle_call({predict, Inputs}, _, Net) -> {reply, forward(Inputs, Net), Net};
handle_call({backprop, Inputs, Targets}, _, Net) ->
    Outputs = forward(Inputs, Net),
    Errors = [O - T || {O, T} <- lists:zip(Outputs, Targets)],
    [Neuron ! {backward, 1, Error} || {Neuron, Error} <- lists:zip(lists:last(Net#net.neurons), Errors)],
    %% The error has come back to the inputs: every neuron between has learnt, and the next sample may come.
    [receive {backward, I, _} -> ok end || I <- lists:seq(1, length(hd(Net#net.neurons)))],
    {reply, Outputs, Net};
handle_call(weights, _, #net{neurons = [_ | Layers]} = Net) ->
    {reply, [[begin Neuron ! {weights, self()}, receive {weights, Neuron, W} -> W end end || Neuron <- Layer] || Layer <- Layers],
     Net}.

handle_cast(_, Net) -> {noreply, Net}.

forward(Inputs, #net{neurons = [First | _] = Layers}) ->
    [Neuron ! {input, Value} || {Neuron, Value} <- lists:zip(First, Inputs)],
    [receive {forward, I, Value} -> Value end || I <- lists:seq(1, length(lists:last(Layers)))].

neuron(N = #neuron{index = I, sources = Sources, sinks = Sinks, came = Came, errors = Errors}) ->
    receive
        {connect, Before, Behind} -> neuron(N#neuron{sources = Before, sinks = Behind});
        {input, Value} -> cast(Sinks, {forward, I, Value}), neuron(N#neuron{output = Value});
        {forward, From, Value} when map_size(Came) + 1 =:= length(Sources) -> neuron(fired(N, Came#{From => Value}));
        {forward, From, Value} -> neuron(N#neuron{came = Came#{From => Value}});
        {backward, From, Error} when map_size(Errors) + 1 =:= length(Sinks) -> neuron(learnt(N, Errors#{From => Error}));
        {backward, From, Error} -> neuron(N#neuron{errors = Errors#{From => Error}});
        {weights, Pid} -> Pid ! {weights, self(), [N#neuron.bias | N#neuron.weights]}, neuron(N)
    end.

%% All inputs are here. They are summed in their order, not in that of their coming: the same sum each time.
fired(N = #neuron{index = I, sinks = Sinks, weights = Weights, bias = Bias}, Came) ->
    Inputs = in_order(Came),
    Output = 1 / (1 + math:exp(-clamped(dot(Weights, Inputs, Bias)))),
    cast(Sinks, {forward, I, Output}),
    N#neuron{came = #{}, inputs = Inputs, output = Output}.

%% All errors are here: what each input had of them goes back, by the weights from before they change.
learnt(N = #neuron{index = I, sources = Sources, inputs = []}, _) ->
    cast(Sources, {backward, I, none}),
    N#neuron{errors = #{}};
learnt(N = #neuron{index = I, sources = Sources, weights = Weights, bias = Bias, rate = Rate, output = Output}, Errors) ->
    Delta = lists:sum(in_order(Errors)) * Output * (1 - Output),
    [Source ! {backward, I, Delta * W} || {Source, W} <- lists:zip(Sources, Weights)],
    Step = Rate * Delta,
    N#neuron{errors = #{}, weights = [W - Step * X || {W, X} <- lists:zip(Weights, N#neuron.inputs)], bias = Bias - Step}.

in_order(#{1 := Only} = Came) when map_size(Came) =:= 1 -> [Only];
in_order(Came) -> [map_get(I, Came) || I <- lists:seq(1, map_size(Came))].

dot([], [], Sum) -> Sum;
dot([W | Ws], [X | Xs], Sum) -> dot(Ws, Xs, Sum + W * X).

%% Beyond this e^x is more than a float holds.
clamped(X) -> max(-700.0, min(700.0, X)).

cast(Neurons, Message) -> [Neuron ! Message || Neuron <- Neurons].
