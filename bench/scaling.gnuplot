# scaling.gnuplot - the table of `dynkin bench --scaling` as curves: gnuplot -c bench/scaling.gnuplot TABLE.csv PLOT.png TITLE
set terminal pngcairo size 1200,900 font "sans,11"
set output ARG2
set datafile separator ","
table = ARG1
stages = "moments gram solve ode conditional hmc"
set logscale xy
set format y "10^{%T}"
set grid
set key outside right top
set autoscale xfix
set offsets graph 0.05, graph 0.05, 0, 0
set multiplot layout 2,2 title ARG3
# Rows of one axis, stage and precision float64, or the only one the stage has.
curve(axis, stage) = sprintf("< awk -F, '$1 == \"%s\" && $3 == \"%s\" && ($4 == \"float64\" || $3 != \"moments\")' %s", axis, stage, table)
do for [axis in "samples dimension degree threads"] {
    set xlabel axis
    set ylabel "seconds a run"
    unset xtics
    set xtics
    if (axis eq "degree" || axis eq "threads") { set xtics (1, 2, 4, 6, 8, 16, 32, 64) }
    shown = ""
    do for [stage in stages] {
        if (system(sprintf("awk -F, '$1 == \"%s\" && $3 == \"%s\"' %s | wc -l", axis, stage, table)) > 0) { shown = shown . " " . stage }
    }
    plot for [stage in shown] curve(axis, stage) using 2:13:15:16 with yerrorlines pointtype 7 pointsize 0.7 title stage
}
unset multiplot
