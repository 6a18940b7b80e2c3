-- A grid of cells of equal area: the Lambert cylindrical equal-area projection with standard parallel 51.1 N (the
-- city), on a sphere of 6 371 008.8 m (mean radius, IUGG). Formulas: J. P. Snyder, Map Projections: A Working Manual
-- (USGS PP 1395, 1987), section 10.

-- Metres east of Greenwich and north of the equator, from degrees.
CREATE OR REPLACE MACRO grid_x(longitude) AS 6371008.8 * cos(radians(51.1)) * radians(longitude);
CREATE OR REPLACE MACRO grid_y(latitude) AS 6371008.8 * sin(radians(latitude)) / cos(radians(51.1));

-- The inverse: degrees, from metres. The outermost cells reach beyond the poles.
CREATE OR REPLACE MACRO grid_lon(x) AS degrees(x / (6371008.8 * cos(radians(51.1))));
CREATE OR REPLACE MACRO grid_lat(y) AS degrees(asin(greatest(-1.0, least(1.0, y * cos(radians(51.1)) / 6371008.8))));

-- The number of the cell, along one axis, that a place in metres lies in.
CREATE OR REPLACE MACRO grid_index(metres, side) AS floor(metres / side)::INTEGER;

-- The name of a cell, such as '250m:4753:31017'.
CREATE OR REPLACE MACRO grid_cell(kind, column_index, row_index) AS concat(kind, ':', column_index, ':', row_index);

-- The centre of a cell in degrees. Six decimals are 0.1 m.
CREATE OR REPLACE MACRO grid_centre_lon(column_index, side) AS round(grid_lon((column_index + 0.5) * side), 6);
CREATE OR REPLACE MACRO grid_centre_lat(row_index, side) AS round(grid_lat((row_index + 0.5) * side), 6);
