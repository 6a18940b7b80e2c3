-- What several tables compute alike.

-- Great-circle distance in metres between two points in degrees: haversine on a sphere of 6 371 008.8 m (mean radius, IUGG).
CREATE OR REPLACE MACRO distance_m(lat1, lon1, lat2, lon2) AS
    2 * 6371008.8 * asin(sqrt(least(1.0,
        pow(sin(radians(lat2 - lat1) / 2), 2)
        + cos(radians(lat1)) * cos(radians(lat2)) * pow(sin(radians(lon2 - lon1) / 2), 2))));

-- The city's wall clock at an instant.
CREATE OR REPLACE MACRO local(instant) AS instant AT TIME ZONE 'Europe/Warsaw';

-- Milliseconds, as a whole number, to minutes.
CREATE OR REPLACE MACRO minutes(milliseconds) AS milliseconds / 60000.0;
