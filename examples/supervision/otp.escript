#!/usr/bin/env escript
%% -*- erlang -*-
%%! -noshell -kernel logger_level none
%%
%% OTP's supervisor with the same child specification. Says `ready` when it has its child. Each line on standard input is
%% then a kill of the child, answered by `SECONDS life N`, the number of the child's new life, or by `SECONDS ended REASON`
%% when the supervisor has given up. The seconds are whole ones, of the clock that the supervisor counts restarts by.
-module(otp).
-mode(compile).
-behaviour(supervisor).
-export([main/1, init/1, start_model/0]).

init([]) ->
    {ok, {#{strategy => one_for_one, intensity => 5, period => 10},
          [#{id => model, start => {?MODULE, start_model, []}, restart => permanent, shutdown => 5000}]}}.

start_model() -> {ok, spawn_link(fun() -> receive stop -> ok end end)}.

main(_) ->
    process_flag(trap_exit, true),
    {ok, Supervisor} = supervisor:start_link(?MODULE, []),
    io:format("ready~n"),
    kills(Supervisor, child(Supervisor), 1).

kills(Supervisor, Child, Life) ->
    case io:get_line("") of
        eof -> ok;
        _ ->
            Seconds = erlang:monotonic_time(1),
            exit(Child, kill),
            case next_child(Supervisor, Child) of
                {ended, Reason} -> io:format("~b ended ~p~n", [Seconds, Reason]);
                Next -> io:format("~b life ~b~n", [Seconds, Life + 1]), kills(Supervisor, Next, Life + 1)
            end
    end.

next_child(Supervisor, Killed) ->
    receive {'EXIT', Supervisor, Reason} -> {ended, Reason}
    after 1 ->
        case catch child(Supervisor) of
            Child when is_pid(Child), Child =/= Killed -> Child;
            _ -> next_child(Supervisor, Killed)
        end
    end.

child(Supervisor) -> [{model, Child, worker, _}] = supervisor:which_children(Supervisor), Child.
