-- Notifications reach who listens, after the transaction that sent them.
\set quoted :schema ' Quoted Channel'
LISTEN :"schema";
NOTIFY :"schema", 'to myself';
SELECT pg_notify(:'schema', 'by function');
BEGIN;
NOTIFY :"schema", 'undone';
ROLLBACK;
BEGIN;
NOTIFY :"schema", 'twice';
NOTIFY :"schema", 'twice';
NOTIFY :"schema", 'once';
COMMIT;
UNLISTEN :"schema";
NOTIFY :"schema", 'unheard';
BEGIN;
LISTEN never;
ROLLBACK;
LISTEN :"quoted";
NOTIFY :"quoted";
UNLISTEN *;
NOTIFY :"quoted", 'unheard';
SELECT 1;
