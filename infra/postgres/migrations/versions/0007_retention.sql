-- What is old goes by functions of the owner: the loader itself may not delete history.
SELECT 1;
