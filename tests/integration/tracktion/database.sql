-- SPDX-License-Identifier: GPL-3.0-or-later
-- The official image makes its one user the owner of the server.
\i /lab/stack.sql
reset role;
alter role tracktion_user superuser;
