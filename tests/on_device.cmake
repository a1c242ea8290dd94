# test_on_device: tests of operations that have both backends, from the same objects as those of the CPU (`on_device:`
# before their names). With them on_device.cpp, which sees to it that each runs kernels. Not test_levels and
# test_level_table: a fit of levels takes ten seconds on the emulator however few its rows are, and test_cuda_levels has
# one level, and models, against an oracle and the CPU.
set(operations
  test_closure
  test_energy_fit
  test_fit
  test_gram
  test_linear
  test_local_metropolis
  test_mcmc
  test_metrics
  test_moments
  test_sampler
  test_score
  test_solve
  test_target
  test_transfer_matrix
  test_weigh)

set(objects)
foreach(name IN LISTS operations)
  list(APPEND objects $<TARGET_OBJECTS:${name}>)
endforeach()
dynkin_test_program(test_on_device on_device.cpp ${objects})
target_compile_definitions(test_on_device PRIVATE DYNKIN_EMULATED=$<TARGET_EXISTS:dynkin_emulator>)
if(TARGET dynkin_emulator)
  target_link_libraries(test_on_device PRIVATE dynkin_emulator)
endif()

# No kernel runs: functions of the host, what is refused before any work, and tables and moves that only the CPU has as
# objects (those of the device are inside its samplers and chains: test_cuda_levels, test_cuda_local).
set(host_only
  Chains/Stored.Averages*
  Closure.AveragesAreThoseOfADirectLoop
  Closure.BadArgumentsAreRefused
  DirectDraw.*
  Elementary.*
  Energy.FixedBoundaryOfAnotherShapeIsRefused
  Energy.LogPartitionOfTheReferenceChain
  EnergyFit.RefusesWhatItCannotDo
  Fit.AnInterruptBeforeTheMomentsStopsItToo
  Fit.DuplicatedColumnsAreNamed
  Fit.OptionsThatCannotBeAreUsageErrors
  Fit.TooFewSamplesAndWrongLatticesAreRefused
  Gram.OperationsByHand
  Lattice.*
  Linear.ProcessesWithoutAStationaryLawAreRefused
  LinearMonomials.*
  LocalMetropolis.E*:LocalMetropolis.HeatBath*:LocalMetropolis.TilesLeave*:LocalMetropolis.Refuses*
  Metrics.WrongInput
  MomentPlan.*
  Moments.WhatTheSourceThrowsPassesThrough
  Resampling.*
  Score.TimesOutsideTheModelAreErrors
  ScoreBasis.*
  ScoreMatchingLoss.ByHand
  Target.*
  TransferMatrix.RefusedTargets
  TransferMatrix.SlopeOfLogZIsTheEdgeEnergy
  TransferMatrix.ZerosOutsideAreFixedZeros
  WeightedMeans.WrongWeights)

# More than some seconds on the emulator.
set(slow
  # Statistics of tens of thousands of rows; test_cuda_hmc has the bits of the CPU, and what it does when interrupted.
  Mcmc.ChosenSettingsAreSensible
  Mcmc.EnergiesOfTheRows
  Mcmc.GaussianMomentsAreExact
  Mcmc.TemperingCrossesBarriers
  Mcmc.SameBytesForThreadsLanesAndSimdLevel
  Resumed.PartialOutputThatIsTooShortIsAnError
  Resumed.RowsWrittenAfterTheLastSaveAreWrittenAgain
  Resumed.SameBytesAndReportAfterManyInterruptions
  # Models of walkers, twenty fits; test_cuda_energy_fit has them against the CPU.
  EnergyFit.AChainFromItsEnergy
  EnergyFit.ResumesToTheSameBytes
  EnergyFit.SameBytesForAnyNumberOfThreadsAndNoFilesLeft
  # Many fits, of which the host makes something.
  Fit.DataThatCannotBeModelledEndInAClearError
  Fit.SymmetricDataAreRecognised
  # Flows of thousands of particles; test_cuda_linear has the bytes of the CPU.
  Linear.DensityOfDegreeFourIntegratesToOne
  Linear.SamplesHaveTheMomentsAndTheDensityOfTheLaw
  # Sums over millions of points, by the host.
  TransferMatrix.TwoAndThreeSites
  # Twenty passes over 6007 rows, which differ in threads, or in batches as in test_cuda_moments.
  Layout/Division.ThreadsAndBatchesLeaveTheSameBytes*
  Layout/Division.SumsThatContinueAreThoseOfOneRun/2)

list(JOIN host_only ":" left_out)
if(TARGET dynkin_emulator)
  list(JOIN slow ":" slow)
  string(APPEND left_out ":${slow}")
endif()
gtest_discover_tests(test_on_device DISCOVERY_TIMEOUT 60 TEST_PREFIX on_device: TEST_FILTER "-${left_out}"
  PROPERTIES TIMEOUT 300 ENVIRONMENT "${test_environment}" LABELS device)
add_dependencies(device_tests test_on_device)
