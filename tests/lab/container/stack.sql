-- SPDX-License-Identifier: GPL-3.0-or-later
-- The database of a music library: big enough that a plan means something, small enough to be there in a second.
\set application_password `echo "$APPLICATION_PASSWORD"`
\set operator_password `echo "$OPERATOR_PASSWORD"`
\set monitor_password `echo "$MONITOR_PASSWORD"`

create role tracktion_user login password :'application_password';
-- Looks, and can do nothing.
create role tracktion_monitor login password :'monitor_password' in role pg_monitor;
-- Looks, ends sessions, and maintains the application's tables.
create role tracktion_operator login password :'operator_password' in role pg_monitor, pg_signal_backend, tracktion_user;
create database tracktion owner tracktion_user;

\connect tracktion
create extension pg_stat_statements;
grant create on schema public to tracktion_user;
set role tracktion_user;

create table artists (
    id bigint generated always as identity primary key,
    name text not null unique
);
create table albums (
    id bigint generated always as identity primary key,
    artist_id bigint not null references artists,
    title text not null,
    released date
);
create index albums_artist_id on albums (artist_id);
create table tracks (
    id bigint generated always as identity primary key,
    artist_id bigint not null references artists,
    album_id bigint references albums,
    title text not null,
    path text not null unique,
    seconds real,
    added timestamptz not null default now()
);
create index tracks_artist_id on tracks (artist_id);
create index tracks_album_id on tracks (album_id);
create table analysis_results (
    id bigint generated always as identity primary key,
    track_id bigint not null references tracks on delete cascade,
    bpm real,
    musical_key text,
    confidence real,
    finished timestamptz not null default now()
);
create index analysis_results_track_id on analysis_results (track_id);

insert into artists (name) select 'Artist ' || n from generate_series(1, 400) n;
insert into albums (artist_id, title, released)
    select 1 + n % 400, 'Album ' || n, date '1990-01-01' + n from generate_series(1, 1200) n;
insert into tracks (artist_id, album_id, title, path, seconds)
    select 1 + n % 400, 1 + n % 1200, 'Track ' || n, '/music/library/track-' || n || '.flac', 120 + n % 300
    from generate_series(1, 8000) n;
insert into analysis_results (track_id, bpm, musical_key, confidence)
    select n, 80 + n % 100, (array['C', 'G', 'D', 'A', 'E', 'B', 'F'])[1 + n % 7], 0.8 + (n % 20) / 100.0
    from generate_series(1, 8000) n;
reset role;
vacuum analyze;
