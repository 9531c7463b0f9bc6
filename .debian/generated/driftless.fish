# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_driftless_global_optspecs
    string join \n h/help V/version
end

function __fish_driftless_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_driftless_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_driftless_using_subcommand
    set -l cmd (__fish_driftless_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c driftless -n "__fish_driftless_needs_command" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_needs_command" -s V -l version -d 'Print version'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "sync" -d 'Make the replica identical to the source once, then exit'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "watch" -d 'Make the replica identical, then follow every change until stopped'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "verify" -d 'Compare every byte and attribute, change nothing'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "scrub" -d 'Read the files and tell decay of the disk from edits'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "status" -d 'Show what the running service is doing; where several run, all of them in a table'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "flush" -d 'Return once all that was written before the call is in the replica'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "sweep" -d 'Start a full sweep now'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "release" -d 'Let the held deletions happen, once'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "history" -d 'Tell what happened to a file or a folder, under all the names that it had'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "log" -d 'Tell what happened in the replica, or what was removed'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "restore" -d 'Bring a file or a folder back as it was at a time, in its place or elsewhere'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "check-config" -d 'Check a configuration file, and print the settings that it comes to'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "service" -d 'Add, list and remove services under systemd'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "manpage" -d 'Print the manual page'
complete -c driftless -n "__fish_driftless_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l max-delete -d 'Hold deletions that would remove more than this share of the replica (and more than 50 entries) [default: 50%]' -r
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l durability -d 'Whether contents are on disk before they are published under their name [default: batch]' -r -f -a "batch\t'Contents are on disk before they are published'
none\t'The system decides when; a power cut can leave empty files'"
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l pairs -d 'Take the two folders from this file, a line each, and work in both as with --two-way; empty lines stand between several pairs' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l conflict -d 'What becomes of a file that both sides have changed, with --two-way or --pairs [default: keep-both]' -r -f -a "keep-both\t'The newer version keeps the name, the other one stays under another name'
newer\t'The newer version stays'
source\t'The source\'s version stays'
replica\t'The replica\'s version stays'"
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l keep-versions -d 'Keep what is overwritten and removed in the replica, as in 30d or \'1h: all, 1d: hourly, 30d: daily\' [default: 0]' -r
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l keep-max -d 'Up to so much of it, as in 10GB or 500MiB; the oldest goes first [default: none]' -r
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l keep-free -d 'Give up the oldest of it when less than this is free on the replica\'s disk, or a copy has no room, as in 5GB or 10% [default: none]' -r
complete -c driftless -n "__fish_driftless_using_subcommand sync" -s x -l exclude -d 'Leave these paths alone: neither copied nor removed; gitignore syntax, relative to the source; repeatable' -r
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l exclude-from -d 'Read such patterns from a file, one a line; repeatable' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand sync" -s j -l jobs -d 'Threads that copy or compare [default: the cores, at most 8]' -r
complete -c driftless -n "__fish_driftless_using_subcommand sync" -s l -l log-file -d 'Log every operation there, too [default: none for sync, driftless.log in the state folder for watch]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l progress -d 'When to show a progress bar during sweeps [default: auto]' -r -f -a "auto\t'On a terminal, during sweeps that take longer than half a second'
always\t'From the beginning of each sweep; where there is no terminal, as a line every ten seconds'
never\t'Not at all'"
complete -c driftless -n "__fish_driftless_using_subcommand sync" -s n -l dry-run -d 'Print what would be done, do nothing'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l release -d 'Go through with deletions that would be held (see --max-delete)'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -s c -l checksum -d 'Sweeps compare all contents, byte by byte, not size and modification time'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l two-way -d 'Changes on either side go to the other: both folders are worked in'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l accept-root -d 'Take the two folders, and what is mounted below them, as they are now, though they are not those of before'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -l one-file-system -d 'Do not descend into other mounts'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -s q -l quiet -d 'Warnings and errors only on the console'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -s v -l verbose -d 'Say more; repeatable'
complete -c driftless -n "__fish_driftless_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l one-of -d 'Serve one pair of the file, for a `watch` with this process number that serves them all' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l config -d 'Take source, replica and options from this TOML file; options given here win over it' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand watch" -s i -l interval -d 'Time between sweeps, as in 90s, 10m, \'1h 30m\'; a bare number is seconds [default: 10m]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l debounce -d 'Quiet time before a path that is still being written is acted on [default: 100ms]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l max-delay -d 'A path that never falls quiet is acted on at least this often [default: 2s]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l max-delete -d 'Hold deletions that would remove more than this share of the replica (and more than 50 entries) [default: 50%]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l durability -d 'Whether contents are on disk before they are published under their name [default: batch]' -r -f -a "batch\t'Contents are on disk before they are published'
none\t'The system decides when; a power cut can leave empty files'"
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l pairs -d 'Take the two folders from this file, a line each, and work in both as with --two-way; empty lines stand between several pairs' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l conflict -d 'What becomes of a file that both sides have changed, with --two-way or --pairs [default: keep-both]' -r -f -a "keep-both\t'The newer version keeps the name, the other one stays under another name'
newer\t'The newer version stays'
source\t'The source\'s version stays'
replica\t'The replica\'s version stays'"
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l keep-versions -d 'Keep what is overwritten and removed in the replica, as in 30d or \'1h: all, 1d: hourly, 30d: daily\' [default: 0]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l keep-max -d 'Up to so much of it, as in 10GB or 500MiB; the oldest goes first [default: none]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l keep-free -d 'Give up the oldest of it when less than this is free on the replica\'s disk, or a copy has no room, as in 5GB or 10% [default: none]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -s x -l exclude -d 'Leave these paths alone: neither copied nor removed; gitignore syntax, relative to the source; repeatable' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l exclude-from -d 'Read such patterns from a file, one a line; repeatable' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand watch" -s j -l jobs -d 'Threads that copy or compare [default: the cores, at most 8]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l control -d 'Where status, flush, sweep and release reach this service [default: NAME.sock in $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/driftless or /run/driftless]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l name -d 'Name of the control socket [default: made from the two folders]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l scrub-every -d 'Scrub so often, from the begin of one to the begin of the next, as in 30d; 0 is never [default: never]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l scrub-rate -d 'Read no faster than this in such a scrub [default: 20MB/s]' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l metrics -d 'Keep the figures for monitoring in this file, as OpenMetrics text, for node_exporter\'s textfile collector' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l metrics-listen -d 'Answer http://ADDR/metrics with the figures for monitoring, as OpenMetrics text; as in 127.0.0.1:9494' -r
complete -c driftless -n "__fish_driftless_using_subcommand watch" -s l -l log-file -d 'Log every operation there, too [default: none for sync, driftless.log in the state folder for watch]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l progress -d 'When to show a progress bar during sweeps [default: auto]' -r -f -a "auto\t'On a terminal, during sweeps that take longer than half a second'
always\t'From the beginning of each sweep; where there is no terminal, as a line every ten seconds'
never\t'Not at all'"
complete -c driftless -n "__fish_driftless_using_subcommand watch" -s c -l checksum -d 'Sweeps compare all contents, byte by byte, not size and modification time'
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l two-way -d 'Changes on either side go to the other: both folders are worked in'
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l accept-root -d 'Take the two folders, and what is mounted below them, as they are now, though they are not those of before'
complete -c driftless -n "__fish_driftless_using_subcommand watch" -l one-file-system -d 'Do not descend into other mounts'
complete -c driftless -n "__fish_driftless_using_subcommand watch" -s q -l quiet -d 'Warnings and errors only on the console'
complete -c driftless -n "__fish_driftless_using_subcommand watch" -s v -l verbose -d 'Say more; repeatable'
complete -c driftless -n "__fish_driftless_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c driftless -n "__fish_driftless_using_subcommand verify" -l manifest -d 'Also write the MD5 of every file there, as md5sum does; - is standard output' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand verify" -s x -l exclude -d 'Leave these paths alone: neither copied nor removed; gitignore syntax, relative to the source; repeatable' -r
complete -c driftless -n "__fish_driftless_using_subcommand verify" -l exclude-from -d 'Read such patterns from a file, one a line; repeatable' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand verify" -s j -l jobs -d 'Threads that copy or compare [default: the cores, at most 8]' -r
complete -c driftless -n "__fish_driftless_using_subcommand verify" -l one-file-system -d 'Do not descend into other mounts'
complete -c driftless -n "__fish_driftless_using_subcommand verify" -s q -l quiet -d 'Warnings and errors only on the console'
complete -c driftless -n "__fish_driftless_using_subcommand verify" -s v -l verbose -d 'Say more; repeatable'
complete -c driftless -n "__fish_driftless_using_subcommand verify" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -l config -d 'Take the two folders from this TOML file' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -l rate -d 'Read no faster than this, as in 20MB/s [default: as fast as it goes]' -r
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -l control -d 'The service\'s control socket [default: the only one that is there]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -l name -d 'The service\'s name, where several run' -r
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -l source -d 'Read the source\'s files as well'
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -l repair -d 'Replace what has decayed by the other side\'s contents, where these are good'
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -l two-way -d 'Both folders are worked in: their service has --two-way'
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -l json -d 'Print the result as JSON'
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -s q -l quiet -d 'Warnings and errors only on the console'
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -s v -l verbose -d 'Say more; repeatable'
complete -c driftless -n "__fish_driftless_using_subcommand scrub" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand status" -l control -d 'The service\'s control socket [default: the only one that is there]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand status" -l name -d 'The service\'s name, where several run' -r
complete -c driftless -n "__fish_driftless_using_subcommand status" -l json -d 'Print the whole status as JSON'
complete -c driftless -n "__fish_driftless_using_subcommand status" -s f -l follow -d 'Go on until Ctrl-C: on a terminal the screen stays up to date, elsewhere each change is a line'
complete -c driftless -n "__fish_driftless_using_subcommand status" -s a -l all -d 'All services in one table, with --json as an array, also where only one is running'
complete -c driftless -n "__fish_driftless_using_subcommand status" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand flush" -l control -d 'The service\'s control socket [default: the only one that is there]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand flush" -l name -d 'The service\'s name, where several run' -r
complete -c driftless -n "__fish_driftless_using_subcommand flush" -l timeout -d 'Give up after this time' -r
complete -c driftless -n "__fish_driftless_using_subcommand flush" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand sweep" -l control -d 'The service\'s control socket [default: the only one that is there]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand sweep" -l name -d 'The service\'s name, where several run' -r
complete -c driftless -n "__fish_driftless_using_subcommand sweep" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand release" -l control -d 'The service\'s control socket [default: the only one that is there]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand release" -l name -d 'The service\'s name, where several run' -r
complete -c driftless -n "__fish_driftless_using_subcommand release" -l accept-root -d 'Let no deletions happen, but take the two folders, and what is mounted below them, as they are now'
complete -c driftless -n "__fish_driftless_using_subcommand release" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand history" -l replica -d 'Read the history of this replica; it needs no service [default: that of the service that is running]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand history" -l config -d 'Take source and replica from this TOML file' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand history" -l control -d 'The service\'s control socket [default: the only one that is there]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand history" -l name -d 'The service\'s name, where several run' -r
complete -c driftless -n "__fish_driftless_using_subcommand history" -l since -d 'Only what happened since then, as in 2d, \'yesterday 14:00\', \'2026-11-21 14:32\'' -r
complete -c driftless -n "__fish_driftless_using_subcommand history" -l until -d 'Only what happened up to then' -r
complete -c driftless -n "__fish_driftless_using_subcommand history" -l json -d 'Print a JSON object a line'
complete -c driftless -n "__fish_driftless_using_subcommand history" -s v -l verbose -d 'Also what follows from something else, as the times of folders'
complete -c driftless -n "__fish_driftless_using_subcommand history" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand log" -l replica -d 'Read the history of this replica; it needs no service [default: that of the service that is running]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand log" -l config -d 'Take source and replica from this TOML file' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand log" -l control -d 'The service\'s control socket [default: the only one that is there]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand log" -l name -d 'The service\'s name, where several run' -r
complete -c driftless -n "__fish_driftless_using_subcommand log" -l since -d 'Only what happened since then, as in 2d, \'yesterday 14:00\', \'2026-11-21 14:32\'' -r
complete -c driftless -n "__fish_driftless_using_subcommand log" -l until -d 'Only what happened up to then' -r
complete -c driftless -n "__fish_driftless_using_subcommand log" -l removed -d 'Only what was removed'
complete -c driftless -n "__fish_driftless_using_subcommand log" -l json -d 'Print a JSON object a line'
complete -c driftless -n "__fish_driftless_using_subcommand log" -s v -l verbose -d 'Also what follows from something else, as the times of folders'
complete -c driftless -n "__fish_driftless_using_subcommand log" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand restore" -l at -d 'As it was then: \'2h ago\', \'yesterday 14:00\', \'2026-11-21 14:32:10\', RFC 3339, @SECONDS.FRACTION' -r
complete -c driftless -n "__fish_driftless_using_subcommand restore" -l to -d 'Bring it back there, and not in its place: what is not there yet, or an empty folder' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand restore" -l replica -d 'Read the history of this replica; it needs no service [default: that of the service that is running]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand restore" -l config -d 'Take source and replica from this TOML file' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand restore" -l control -d 'The service\'s control socket [default: the only one that is there]' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand restore" -l name -d 'The service\'s name, where several run' -r
complete -c driftless -n "__fish_driftless_using_subcommand restore" -l source -d 'The source, where it is to come back and nothing else tells' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand restore" -s n -l dry-run -d 'Print what would be done, do nothing'
complete -c driftless -n "__fish_driftless_using_subcommand restore" -l force -d 'Replace what is other than it was then, and remove what was not there then; both is kept as a version'
complete -c driftless -n "__fish_driftless_using_subcommand restore" -s q -l quiet -d 'Warnings and errors only on the console'
complete -c driftless -n "__fish_driftless_using_subcommand restore" -s v -l verbose -d 'Say more; repeatable'
complete -c driftless -n "__fish_driftless_using_subcommand restore" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand check-config" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand service; and not __fish_seen_subcommand_from add list remove help" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand service; and not __fish_seen_subcommand_from add list remove help" -f -a "add" -d 'Write the configuration of a new service, and what systemd needs to know'
complete -c driftless -n "__fish_driftless_using_subcommand service; and not __fish_seen_subcommand_from add list remove help" -f -a "list" -d 'List the services that are configured'
complete -c driftless -n "__fish_driftless_using_subcommand service; and not __fish_seen_subcommand_from add list remove help" -f -a "remove" -d 'Remove what `service add` has written; the replica and what is remembered of it stay'
complete -c driftless -n "__fish_driftless_using_subcommand service; and not __fish_seen_subcommand_from add list remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from add" -l root -d 'Use the files below this folder as though it were /' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from add" -l user -d 'A service of your own user manager, not of the system'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from add" -l enable -d 'Also start it, now and at each boot (with --user: at each login)'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from add" -l force -d 'Overwrite the files that are there'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from list" -l root -d 'Use the files below this folder as though it were /' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from list" -l user -d 'A service of your own user manager, not of the system'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from list" -l json -d 'Print the list as JSON'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from remove" -l root -d 'Use the files below this folder as though it were /' -r -F
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from remove" -l user -d 'A service of your own user manager, not of the system'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from remove" -l disable -d 'Stop and disable it first'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from remove" -l force -d 'Remove the configuration though it is not as `service add` wrote it'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from help" -f -a "add" -d 'Write the configuration of a new service, and what systemd needs to know'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the services that are configured'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Remove what `service add` has written; the replica and what is remembered of it stay'
complete -c driftless -n "__fish_driftless_using_subcommand service; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c driftless -n "__fish_driftless_using_subcommand completions" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand manpage" -s h -l help -d 'Print help'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "sync" -d 'Make the replica identical to the source once, then exit'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "watch" -d 'Make the replica identical, then follow every change until stopped'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "verify" -d 'Compare every byte and attribute, change nothing'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "scrub" -d 'Read the files and tell decay of the disk from edits'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "status" -d 'Show what the running service is doing; where several run, all of them in a table'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "flush" -d 'Return once all that was written before the call is in the replica'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "sweep" -d 'Start a full sweep now'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "release" -d 'Let the held deletions happen, once'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "history" -d 'Tell what happened to a file or a folder, under all the names that it had'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "log" -d 'Tell what happened in the replica, or what was removed'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "restore" -d 'Bring a file or a folder back as it was at a time, in its place or elsewhere'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "check-config" -d 'Check a configuration file, and print the settings that it comes to'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "service" -d 'Add, list and remove services under systemd'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "completions" -d 'Print a completion script for a shell'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "manpage" -d 'Print the manual page'
complete -c driftless -n "__fish_driftless_using_subcommand help; and not __fish_seen_subcommand_from sync watch verify scrub status flush sweep release history log restore check-config service completions manpage help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c driftless -n "__fish_driftless_using_subcommand help; and __fish_seen_subcommand_from service" -f -a "add" -d 'Write the configuration of a new service, and what systemd needs to know'
complete -c driftless -n "__fish_driftless_using_subcommand help; and __fish_seen_subcommand_from service" -f -a "list" -d 'List the services that are configured'
complete -c driftless -n "__fish_driftless_using_subcommand help; and __fish_seen_subcommand_from service" -f -a "remove" -d 'Remove what `service add` has written; the replica and what is remembered of it stay'
